"""A Ray cluster of two nodes on loopback, through the real executor, sweep and store; and the parts that need none."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.config.recipes import RECIPES
from bench.data.download import cached_folder
from bench.data.spec import UserData, UserDataOptions
from bench.data.user_data import describe
from bench.errors import DataError, DeviceError
from bench.execution.base import Options
from bench.execution.cluster import bootstrap, node_task
from bench.execution.cluster import connection as cluster_link
from bench.execution.cluster.connection import Cluster, ClusterError, import_ray, join, knock
from bench.execution.cluster.executor import RayExecutor
from bench.execution.cluster.nodes import Claim, ClusterInventory, Node, best_node
from bench.execution.cluster.transfer import has_data, pack, save_files, unpack
from bench.execution.progress import Quiet
from bench.execution.sweep import run_sweep
from bench.result import Result
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.system.device import open_device
from bench.trial import Trial
from models import MODELS

ROOT = Path(__file__).parents[3]

# A model of a user's own, which says when it was alive: (process, first sign of life, last one), a line each.
WITNESS = """
import os, time
from pathlib import Path
from torch import nn

class Witness(nn.Module):
    def __init__(self, image_size, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
        self.log = Path(os.environ["VIT_CNN_BENCH_CACHE"], "witness.log")
        self.say()

    def say(self):
        if self.log.parent.is_dir():
            with self.log.open("a") as file:
                file.write(f"{os.getpid()} {time.monotonic()}\\n")

    def forward(self, images):
        if not self.training:
            self.say()
        return self.layers(images)
"""


def trial(seed: int = 0, **changes: Any) -> Trial:
    settings = MODELS["vit"][0](patch_size=4, depth=1, embed_dim=16, num_heads=2).model_dump()
    recipe = RECIPES["vit"].model_copy(update={"epochs": 1, "batch_size": 50})
    asked = {
        "suite": "x", "dataset": "digits", "model": "vit", "settings": settings, "recipe": "vit", "training": recipe,
        "dtype": "fp32", "device": "cpu", "instrument_seconds": 0.0, "seed": seed,
    }  # fmt: skip
    return Trial(**(asked | changes))


def node(name: str, cpus: float = 8, **devices: list[str]) -> Node:
    found = Node(name, name, cpus, len(devices.get("cuda", ())))
    found.tell({"devices": {"cpu": ["Xeon"], **devices}, "lacks": {"cpu": {"tf32": "a CPU has no TF32"}}})
    return found


MIXED = node("m", cuda=["NVIDIA A100-SXM4", "NVIDIA H100 80GB"])
PLAIN, A100, H100 = node("p"), node("a", cuda=["NVIDIA A100-SXM4"] * 4), node("h", cuda=["NVIDIA H100 80GB"] * 2)


# ---- where a trial may run ----


@pytest.mark.parametrize(
    ("device", "names"),
    [("cpu", ["p", "a", "h"]), ("cuda", ["a", "h"]), ("cuda:a100", ["a"]), ("cuda:H100", ["h"]), ("mps", [])],
)
def test_a_trial_runs_only_where_its_device_is(device: str, names: list[str]) -> None:
    assert [n.name for n in (PLAIN, A100, H100) if n.claim(trial(device=device))] == names


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({}, Claim(8, 0)),
        ({"timed": False}, Claim(1, 0)),
        ({"device": "cuda"}, Claim(2, 1)),
        ({"device": "cuda", "world_size": 4}, Claim(8, 4)),
        ({"device": "cuda", "world_size": 5}, None),
    ],
)
def test_a_trial_takes_a_whole_node_or_cards_with_their_cores(changes: dict[str, Any], claim: Claim | None) -> None:
    assert A100.claim(trial(**changes)) == claim


def test_a_card_is_never_timed_beside_a_trial_on_processors() -> None:
    busy = node("n", cuda=["A100"] * 4)
    busy.taken.append(Claim(1, 0))
    assert busy.fits(Claim(1, 0))
    assert not busy.fits(Claim(2, 1))
    busy.taken[:] = [Claim(2, 1)]
    assert busy.fits(Claim(2, 1))
    assert not busy.fits(Claim(1, 0))
    assert not busy.fits(Claim(8, 4))


def test_a_trial_on_processors_leaves_nodes_with_cards_to_those_that_need_them() -> None:
    found = best_node(trial(), [A100, PLAIN])
    assert found is not None
    assert found[0] is PLAIN


def test_a_node_with_different_cards_is_found_by_their_kind_only() -> None:
    assert MIXED.claim(trial(device="cuda")) == Claim(4, 1)
    assert MIXED.claim(trial(device="cuda:A100")) is None
    assert node("n", 0).claim(trial()) is None  # a driver's own machine, `--num-cpus 0`


def test_a_trial_on_a_card_is_bound_to_that_cards_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[set[int]] = []
    monkeypatch.setattr("bench.execution.cluster.node_task.cores", lambda: list(range(8)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, own: bound.append(own), raising=False)
    for cards in (["1"], ["0", "3"], []):
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get_gpu_ids=lambda cards=cards: cards))
        node_task._pin(num_cards=4)
    assert bound == [{2, 3}, {0, 1, 6, 7}]


def test_a_node_with_another_version_of_a_users_model_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another_witness.py").write_text(WITNESS)
    monkeypatch.syspath_prepend(tmp_path)
    model: dict[str, Any] = {"settings": {}, "source": "0" * 12}
    for name, words in (("another_witness:Witness", "the driver 000000000000"), ("nowhere:Witness", "can't find it")):
        asked = trial(model=name, **model)
        said = [*node_task.run(asked.model_dump(), asked.trial_id, "a", None, None, [], 0)]
        assert words in said[-1]["refused"]


def test_a_plan_is_told_what_the_cluster_has() -> None:
    there = ClusterInventory([PLAIN, A100])
    assert there.device_name("auto") == "cuda"
    assert there.device_name("cuda:A100") == "cuda:A100"
    assert there.title("cuda") == "NVIDIA A100-SXM4"
    assert there.lacks(trial(device="cuda:A100", world_size=4)) is None
    assert there.lacks(trial(device="cuda", world_size=8)) == "no node of the cluster has 8 x cuda"
    assert there.lacks(trial(dtype="tf32")) == "a CPU has no TF32"
    for asked, words in (("cuda:H100", "no node of the cluster has it; there: cpu"), ("cuda:1", "ask for 'cuda'")):
        with pytest.raises(DeviceError, match=words):
            there.device_name(asked)


def test_a_device_is_opened_by_a_part_of_its_name() -> None:
    name = open_device("cpu").name
    assert open_device(f"cpu:{name[:6].upper()}").name == name
    with pytest.raises(DeviceError, match="device 'cpu:No Such': this machine has none whose name contains 'No Such'"):
        open_device("cpu:No Such")


# ---- joining ----


def test_an_address_where_nothing_or_something_else_answers_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = threading.Thread(target=_answer_as_http, args=(server,))
        answer.start()
        assert knock("127.0.0.1", port) == "what answers there is no head of a Ray cluster"
        answer.join()
    for address, words in ((f"127.0.0.1:{port}", "nothing answers there"), ("somewhere", "not HOST:PORT")):
        with pytest.raises(ClusterError, match=words):
            join(None, address)


def _answer_as_http(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"needs the package ray .*vit-cnn-bench\[cluster\]"):
        import_ray()


def test_a_head_that_stays_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = cluster_link.Watch(f"127.0.0.1:{server.getsockname()[1]}")
        assert watch.look()
    assert not watch.look()
    monkeypatch.setattr(cluster_link, "SILENT_SECONDS", -1.0)
    with pytest.raises(ClusterError, match=r"the head of the cluster, .*, is gone"):
        watch.look()


# ---- what travels ----


def test_nodes_run_the_drivers_source_though_they_have_another(tmp_path: Path) -> None:
    """A poisoned package lies in the working directory, in PYTHONPATH, and damaged in the cache."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('the wrong source')")
    code = bootstrap.pack_code(ROOT)
    assert code == bootstrap.pack_code(ROOT)
    digest = hashlib.sha256(code).hexdigest()
    damaged = tmp_path / "cache" / "code" / digest[:16] / "bench"
    damaged.mkdir(parents=True)
    (damaged / "__init__.py").write_text("raise SystemExit('damaged')")
    (tmp_path / "code.zip").write_bytes(code)
    task = (ROOT / "bench" / "execution" / "cluster" / "bootstrap.py").read_text(encoding="utf-8")
    (tmp_path / "as_a_node.py").write_text(f"""{task}
_settle(Path("code.zip").read_bytes(), {digest!r})
import subprocess, bench.errors
print(bench.errors.__file__)
subprocess.run([sys.executable, "-c", "import bench.errors; print(bench.errors.__file__)"], check=True)
""")
    env = os.environ | {"VIT_CNN_BENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "as_a_node.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [str(damaged / "errors.py")] * 2, done.stderr


def test_a_dataset_is_unpacked_only_if_it_is_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = pack(trial(), None)
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path))
    unpack(trial(), parcel)
    assert len(list(cached_folder("digits").iterdir())) == 4
    shutil.rmtree(tmp_path / "datasets")
    first, second, *_ = parcel
    with pytest.raises(DataError, match="digits"):
        unpack(trial(), parcel | {first: parcel[second]})
    assert not cached_folder("digits").exists()


def own_images(folder: Path) -> UserData:
    dice = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int64), 40)
    images = dice.integers(0, 60, (80, 8, 8), dtype=np.uint8) + (90 * labels).astype(np.uint8)[:, None, None]
    np.savez(folder / "own.npz", images=images, labels=labels)
    return describe(UserDataOptions(path=str(folder / "own.npz")), folder)


def test_own_images_are_sent_with_their_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "driver"))
    asked = trial(dataset="own", data=own_images(tmp_path))
    parcel = pack(asked, None)
    (tmp_path / "own.npz").unlink()
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "node"))
    assert not has_data(asked, None)
    name, (array, digest) = next(iter(parcel.items()))
    with pytest.raises(DataError, match=f"{name} arrived damaged"):
        unpack(asked, parcel | {name: (array + 1, digest)})
    unpack(asked, parcel)
    assert has_data(asked, None)


def test_images_that_are_read_while_training_are_not_sent(tmp_path: Path) -> None:
    streamed = own_images(tmp_path).model_copy(update={"stream": True})
    with pytest.raises(DataError, match="put it on a folder that all nodes share"):
        pack(trial(dataset="own", data=streamed), None)


def test_a_nodes_files_stay_in_the_trials_folder(tmp_path: Path) -> None:
    save_files(tmp_path / "trials" / "x", {"a.json": b"{}"})
    assert (tmp_path / "trials" / "x" / "a.json").read_bytes() == b"{}"
    for name in ("../out", "/out", "a/b", ".."):
        with pytest.raises(DataError, match="isn't one of a trial's"):
            save_files(tmp_path / "trials" / "x", {name: b""})


# ---- two nodes ----


class Nodes(NamedTuple):
    cluster: Any
    second: Any
    folder: Path


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes of one core each; each has a cache of its own, and the user's model on its path."""
    pytest.importorskip("ray", reason="ray isn't installed; pip install -e '.[cluster]'")
    ray = import_ray()
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("cluster")
    (folder / "witness.py").write_text(WITNESS)
    session = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the name of a socket in it has to be short
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster()
    add: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    try:
        cluster.add_node(
            **add, temp_dir=session, _system_config=quick, node_name="a", env_vars=_environment(folder, "a")
        )
        second = cluster.add_node(**add, node_name="b", env_vars=_environment(folder, "b"))
        yield Nodes(cluster, second, folder)
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
        _wait_until_gone(session)
        shutil.rmtree(session, ignore_errors=True)


def _environment(folder: Path, name: str) -> dict[str, str]:
    (folder / name).mkdir(exist_ok=True)
    return {"VIT_CNN_BENCH_CACHE": str(folder / name), "PYTHONPATH": str(folder)}


class Killer(Quiet):
    """Kills a node in the middle of a trial: some time after its first row."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.killed = nodes, False

    def end(self, trial: Trial, result: Result) -> None:
        if result.node == "b" and not self.killed:
            self.killed = True
            threading.Timer(0.5, self.nodes.cluster.remove_node, [self.nodes.second, False]).start()


def witnessed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """Trials of the user's model on images that lie nowhere any more but in the driver's cache."""
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(folder / "driver"))
    monkeypatch.syspath_prepend(folder)
    from models import source_of

    data = own_images(folder)
    (folder / "own.npz").unlink()
    recipe = RECIPES["vit"].model_copy(update={"epochs": 40, "batch_size": 8})
    settings: dict[str, Any] = {}
    named = {"model": "witness:Witness", "source": source_of("witness:Witness"), "settings": settings}
    return [trial(seed, dataset="own", data=data, training=recipe, **named) for seed in range(5)]


@pytest.mark.timeout(300)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_a_node_is_killed_and_every_trial_is_there_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.execution.cluster.executor import connect

    trials = witnessed(nodes.folder, monkeypatch)
    inventory = connect(nodes.cluster.address)
    assert inventory.device_name("auto") == "cpu"
    executor = RayExecutor(Options(timeout_seconds=60, address=nodes.cluster.address))
    store = RunFolder.create(nodes.folder / "run", {})
    killer = Killer(nodes)
    try:
        outcome = run_sweep(trials, {}, store, executor, killer)
    finally:
        executor.close()
        store.close()
    assert set(outcome.statuses.values()) == {"ok"}, [row["error"] for row in read_rows(store.folder / "trials.csv")]
    assert killer.killed
    rows = read_rows(store.folder / "trials.csv")
    assert sorted(row["trial_id"] for row in rows) == sorted(each.trial_id for each in trials)
    assert {row["node"] for row in rows} == {"a", "b"}
    assert all(row["node_cpu"] and int(row["node_cores"]) > 0 and float(row["load"]) >= 0 for row in rows)
    for each in trials:
        assert (store.folder / "trials" / each.trial_id / "model.safetensors").is_file()
    for name in "ab":  # nothing ran beside anything else on its node
        lives: dict[str, list[float]] = {}
        for line in (nodes.folder / name / "witness.log").read_text().splitlines():
            pid, second = line.split()
            lives.setdefault(pid, []).append(float(second))
        ordered = sorted((min(times), max(times)) for times in lives.values())
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(ordered)), name


DRIVER = """
    import sys
    from pathlib import Path
    from bench.execution.cluster.executor import RayExecutor
    from bench.execution.base import Options
    from bench.execution.progress import Quiet
    from bench.store.run_folder import RunFolder
    from bench.execution.sweep import run_sweep
    from tests.test_cluster import trial

    folder, address = Path(sys.argv[1]), sys.argv[2]
    store = RunFolder.open(folder) if folder.exists() else RunFolder.create(folder, {})
    todo = [t for t in map(trial, range(3)) if t.trial_id not in store.finished()]
    print(len(todo), flush=True)
    executor = RayExecutor(Options(timeout_seconds=60, address=address))
    run_sweep(todo, {}, store, executor, Quiet())
    executor.close()
"""


@pytest.mark.timeout(300)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_a_driver_is_killed_and_nothing_runs_on_until_it_resumes(nodes: Nodes) -> None:
    folder = nodes.folder / "resumed"
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(folder), nodes.cluster.address]
    env = os.environ | {"VIT_CNN_BENCH_CACHE": str(nodes.folder / "driver")}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + 60
        while not _rows(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    before = _rows(folder)
    assert 0 < len(before) < 3
    _wait_until_gone(f"VIT_CNN_BENCH_CACHE={nodes.folder / 'a'}", "multiprocessing.forkserver")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == f"{3 - len(before)}\n", done.stderr
    rows = _rows(folder)
    assert rows[: len(before)] == before
    assert sorted(row["trial_id"] for row in rows) == sorted(trial(seed).trial_id for seed in range(3))
    assert {row["status"] for row in rows} == {"ok"}


def ended_early(folder: Path, address: str, end: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str, int]:
    """The program itself on a cluster, until `end` has done something to it after its first row.

    Returns:
        Its exit status, what it said, and how many rows were there.
    """
    command = [*PROGRAM, "--out", str(folder), "--executor", "ray", "--address", address]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as program:
        deadline = time.monotonic() + 120
        while not _rows(folder) and time.monotonic() < deadline and program.poll() is None:
            time.sleep(0.05)
        end(program)
        try:
            said = program.communicate(timeout=120)[1]
        finally:
            program.kill()
    assert (folder / "report.html").is_file(), said
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["interrupted"], said
    return program.returncode, said, len(_rows(folder))


def resumed(folder: Path, *options: str) -> None:
    """What was missing ran, once; what was there stayed."""
    before = _rows(folder)
    command = [sys.executable, "run_bench.py", "--quiet", "--resume", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    rows = _rows(folder)
    assert rows[: len(before)] == before
    assert len(rows) == len({row["trial_id"] for row in rows}) == 8
    assert {row["status"] for row in rows} == {"ok"}


PROGRAM = [sys.executable, "run_bench.py", "--quiet", "--suite", "smoke", "--epochs", "2"]


@pytest.mark.timeout(400)  # on a busy machine; else a tenth of it
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_report_and_leaves_nothing_running(nodes: Nodes, number: int) -> None:
    folder = nodes.folder / f"signal-{number}"
    status, said, rows = ended_early(folder, nodes.cluster.address, lambda program: program.send_signal(number))
    assert status == 130, said
    assert 0 < rows < 8
    for name in "ab":
        _wait_until_gone(f"VIT_CNN_BENCH_CACHE={nodes.folder / name}", "multiprocessing.forkserver")
    resumed(folder, "--executor", "ray", "--address", nodes.cluster.address)


@pytest.mark.timeout(300)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_every_task_on_cards_has_a_worker_of_its_own(nodes: Nodes) -> None:
    """Else its fork server would show it the cards of the worker's first task. Ray only counts these cards."""
    again = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "num_gpus": 2}
    added = nodes.cluster.add_node(**again, node_name="g", env_vars=_environment(nodes.folder, "g"))
    joined = Cluster(nodes.cluster.address)
    try:
        carded = next(node for node in joined.meet() if node.name == "g")
        asked = {"trial": trial().model_dump(), "trial_id": "another", "node": "g", "timeout_seconds": 1.0}
        asked |= {"digest": None, "parcels": [], "num_cards": 2}  # refused right after it began
        for cards, count in ((1, 3), (0, 1)):
            streams = [joined.start(carded, Claim(1, cards), "run", asked) for _ in range(3)]
            pids = {joined.ray.get(next(stream), timeout=60)["started"] for stream in streams}
            assert len(pids) == count
    finally:
        joined.close()
        nodes.cluster.remove_node(added, False)


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "trials.csv"
    return read_rows(path) if path.exists() else []


def _wait_until_gone(in_environment: str, in_command: str = "") -> None:
    """No process is left that was started with this in its environment (or its command) and that in its command."""
    deadline = time.monotonic() + 30
    while left := [*_processes(in_environment, in_command)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes(in_environment: str, in_command: str) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            about = command + (process / "environ").read_text(errors="replace")
        except OSError:
            continue
        if in_environment in about and in_command in command and int(process.name) != os.getpid():
            yield f"{process.name} {command[:100]}"
