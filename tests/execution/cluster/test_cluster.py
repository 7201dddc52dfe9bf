"""A Ray cluster of two nodes on loopback, through the real executor, sweep and store; and the parts that need none."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_cluster import (
    DRIVER,
    NODE,
    ROOT,
    WITNESS,
    Killer,
    Nodes,
    ended_early,
    environment_of,
    node,
    own_images,
    resumed,
    rows_of,
    trial,
    two_nodes,
    wait_until_gone,
    witnessed,
)

from bench.data.download import cached_folder
from bench.errors import DataError, DeviceError, UserError
from bench.execution.base import Options
from bench.execution.cluster import node_task
from bench.execution.cluster import nodes as nodes_module
from bench.execution.cluster.connection import ClusterError, import_ray, join, knock, source_digest
from bench.execution.cluster.executor import RayExecutor
from bench.execution.cluster.nodes import Claim, Cluster, ClusterInventory, best_node
from bench.execution.cluster.transfer import has_data, pack, save_files, unpack
from bench.execution.sweep import run_sweep
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.system.device import open_device

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
        node_task._bind_to_share_of_cores(num_cards=4)
    assert bound == [{2, 3}, {0, 1, 6, 7}]


def test_a_node_with_another_version_of_a_users_model_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another_witness.py").write_text(WITNESS)
    monkeypatch.syspath_prepend(tmp_path)
    model: dict[str, Any] = {"settings": {}, "source": "0" * 12}
    for name, words in (("another_witness:Witness", "the driver 000000000000"), ("nowhere:Witness", "can't find it")):
        asked = trial(model=name, **model)
        assert words in node_task.run(source_digest(), "a", 0, asked, None, None, [])["refused"]


def test_a_node_refuses_what_is_not_the_drivers_source() -> None:
    assert "another source than the driver" in node_task.run("0" * 64, "a", 0, trial(), None, None, [])["refused"]
    with pytest.raises(UserError, match="another source than the driver"):
        node_task.describe("0" * 64)


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
    looks: list[bool] = []
    cluster = object.__new__(Cluster)
    cluster._asked, cluster._next_look, cluster._heard = {}, 0.0, time.monotonic()
    monkeypatch.setattr(nodes_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "_look", lambda: looks.append(True))
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster._head = f"127.0.0.1:{server.getsockname()[1]}"
        cluster.refresh()
    assert looks == [True]
    cluster.refresh()
    assert looks == [True]  # it would be kept waiting
    monkeypatch.setattr(nodes_module, "SILENT_SECONDS", -1.0)
    with pytest.raises(ClusterError, match=r"the head of the cluster, .*, is gone"):
        cluster.refresh()


# ---- what travels ----


def test_a_dataset_is_unpacked_only_if_it_is_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pack(trial(), None)
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path))
    unpack(trial(), files)
    assert len(list(cached_folder("digits").iterdir())) == 4
    shutil.rmtree(tmp_path / "datasets")
    first, second, *_ = files
    with pytest.raises(DataError, match="digits"):
        unpack(trial(), {**files, first: files[second]})
    assert not cached_folder("digits").exists()


def test_own_images_are_kept_only_if_they_arrive_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "driver"))
    asked = trial(dataset="own", data=own_images(tmp_path))
    files = pack(asked, None)
    (tmp_path / "own.npz").unlink()
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "node"))
    assert not has_data(asked, None)
    [(name, content)] = files.items()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    with pytest.raises(DataError, match="arrived damaged"):
        unpack(asked, {name: bytes(damaged)})
    assert not has_data(asked, None)
    unpack(asked, files)
    assert has_data(asked, None)


def test_images_that_are_read_while_training_are_not_sent(tmp_path: Path) -> None:
    streamed = own_images(tmp_path).model_copy(update={"stream": True})
    with pytest.raises(DataError, match="put it on a folder that all nodes share"):
        pack(trial(dataset="own", data=streamed), None)


def test_a_nodes_files_stay_in_the_trials_folder(tmp_path: Path) -> None:
    save_files(tmp_path / "trials" / "x", {"a.json": b"{}"})
    assert (tmp_path / "trials" / "x" / "a.json").read_bytes() == b"{}"
    for name in ("../out", "/out", "a/b", ".."):
        with pytest.raises(DataError, match="isn't one of its own"):
            save_files(tmp_path / "trials" / "x", {name: b""})


# ---- two nodes ----


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="ray isn't installed; pip install -e '.[cluster]'")
    with two_nodes(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.mark.timeout(900)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_a_node_is_killed_and_every_trial_is_there_once(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.execution.cluster.executor import connect

    trials = witnessed(nodes.folder, monkeypatch)
    inventory = connect(nodes.cluster.address)
    assert inventory.device_name("auto") == "cpu"
    executor = RayExecutor(Options(timeout_seconds=300, address=nodes.cluster.address))
    store = RunFolder.create(nodes.folder / "run", {})
    killer = Killer(nodes)
    try:
        outcome = run_sweep(trials, {}, store, executor, [killer])
    finally:
        executor.close()
        store.close()
    assert set(outcome.statuses.values()) == {"ok"}, [row["error"] for row in read_rows(store.folder)]
    assert killer.killed
    rows = read_rows(store.folder)
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


@pytest.mark.timeout(900)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_a_driver_is_killed_and_nothing_runs_on_until_it_resumes(nodes: Nodes) -> None:
    folder = nodes.folder / "resumed"
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(folder), nodes.cluster.address]
    env = os.environ | {"VIT_CNN_BENCH_CACHE": str(nodes.folder / "driver")}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + 300
        while not rows_of(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    before = rows_of(folder)
    assert 0 < len(before) < 3
    wait_until_gone(f"VIT_CNN_BENCH_CACHE={nodes.folder / 'a'}", "multiprocessing.forkserver")
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"{3 - len(before)}\n", done.stderr
    rows = rows_of(folder)
    assert rows[: len(before)] == before
    assert sorted(row["trial_id"] for row in rows) == sorted(trial(seed).trial_id for seed in range(3))
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.timeout(900)  # on a busy machine; else a tenth of it
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_report_and_leaves_nothing_running(nodes: Nodes, number: int) -> None:
    folder = nodes.folder / f"signal-{number}"
    status, said, rows = ended_early(folder, nodes.cluster.address, lambda program: program.send_signal(number))
    assert status == 130, said
    assert 0 < rows < 8
    for name in "ab":
        wait_until_gone(f"VIT_CNN_BENCH_CACHE={nodes.folder / name}", "multiprocessing.forkserver")
    resumed(folder, "--executor", "ray", "--address", nodes.cluster.address)


@pytest.mark.timeout(900)  # on a busy machine; else a tenth of it
@pytest.mark.slow
def test_every_task_on_cards_has_a_worker_of_its_own(nodes: Nodes) -> None:
    """Else its fork server would show it the cards of the worker's first task. Ray only counts these cards."""
    added = nodes.cluster.add_node(**NODE, num_gpus=2, node_name="g", env_vars=environment_of(nodes.folder, "g"))
    joined = Cluster(nodes.cluster.address)
    try:
        carded = next(node for node in joined.meet() if node.name == "g")
        for cards, count in ((1, 3), (0, 1)):
            options = joined._on(carded, Claim(1, cards))
            task = joined._run_on_cards if cards else joined._run
            told = [task.options(**options).remote("", "g", 2, trial(), None, None, []) for _ in range(3)]
            messages = joined.ray.get(told, timeout=300)
            assert len({message["refused"] for message in messages}) == count
    finally:
        joined.close()
        nodes.cluster.remove_node(added, False)
