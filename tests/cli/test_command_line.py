"""The command line: what a person types, what comes back, and with which exit status.

Most tests call `main()` in this process, since torch takes seconds to load; none of them runs a trial.
"""

import errno
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from made_up import make_run
from made_up_launch import add_launches

import run_bench
from bench import session
from bench import session as conclusion
from bench.analysis.summary import read_tables
from bench.analysis.verdict import decide
from bench.cli import list as catalogue
from bench.cli import results
from bench.data.catalog import DATASETS
from bench.data.download import CACHE_VARIABLE
from bench.data.sources import scikit_learn_digits
from bench.execution import local
from bench.store.tables import SCHEMA_VERSION
from bench.system import device

ROOT = Path(run_bench.__file__).parent

SUITE = """\
dataset: digits
models:
  - {model: vit, patch_size: [2, 4]}
  - {model: cnn, depth: 1}
seeds: 2
"""

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to be in, where running a trial is an error."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a trial would have run")

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where a gate's lock lies; another one may be running
    monkeypatch.setattr(local, "start_fork_server", lambda: None)
    monkeypatch.setattr(session, "run_sweep", refuse)
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def typed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs the program in this process: words -> exit status, standard output, standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["run_bench.py", *map(str, words)])
        status = run_bench.main()
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


@pytest.fixture
def refused(typed: Typed, here: Path) -> Callable[..., str]:
    """Runs the program on bad input: the one line that it says, after checking all that bad input gets."""

    def run(*words: str | Path) -> str:
        before = sorted(here.rglob("*"))
        status, out, err = typed(*words)
        assert status == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1
        assert sorted(here.rglob("*")) == before
        return err.removeprefix("error: ").rstrip("\n")

    return run


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


SLOW_TO_LOAD = ("matplotlib", "numpy", "pandas", "scipy", "seaborn", "sklearn", "torch", "torchvision")


def test_help_answers_at_once() -> None:
    """In 0.1 s on a quiet machine, of which this is the proof on a busy one: it loads nothing that takes long."""
    code = "import sys, run_bench; sys.argv[1:] = ['--help']; run_bench.main(); print(*sys.modules)"
    answer = python("-c", code)
    assert answer.returncode == 0
    assert not set(SLOW_TO_LOAD) & set(answer.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["list", "suites"], ["list", "datasets"], ["list", "--help"]], ids=str)
def test_what_needs_no_torch_does_not_load_it(words: list[str]) -> None:
    code = f"import sys, run_bench; sys.argv[1:] = {words}; run_bench.main(); print('torch' in sys.modules)"
    answer = python("-c", code)
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert answer.stdout.splitlines()[-1] == "False"
    assert len(answer.stdout.splitlines()) > 5


def test_a_real_process_says_one_line_and_exits_with_2(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, ROOT / "run_bench.py", "--suite", "mist"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "error: unknown suite 'mist'; did you mean 'mnist'?\n"
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing to do: name a suite, such as --suite mnist"),
        (["--quiet"], "nothing to do"),
        (["--frob"], "--frob"),
        (["frob"], "frob"),
        (["--suite"], "--suite"),
        (["--suite", "smok"], "unknown suite 'smok'; did you mean 'smoke'?"),
        (["--suite", "smoke.yaml"], "suite file smoke.yaml: there is no such file"),
        (["--suite", "smoke", "--epochs", "many"], "--epochs"),
        (["--suite", "smoke", "--seeds", "2.5"], "--seeds"),
        (["--suite", "smoke", "--budget", "soon"], "'soon' is not a time, such as 90s, 10m or 1h30m"),
        (["--suite", "smoke", "--budget", ""], "'' is not a time"),
        (["--suite", "smoke", "--budget", "-5m"], "'-5m' is not a time"),
        (["--suite", "smoke", "--executor", "clustre"], "unknown executor 'clustre'; known: in-process, ray, sub"),
        (["--suite", "smoke", "--out", "a", "--resume", "b"], "--resume goes on in its own folder; leave out --out"),
        (["smoke", "--epochs", "1", "--set", "epochs=6"], "--epochs and --set epochs=... are the same; leave one out"),
        (["smoke", "--device", "cpu", "--set", "device=cuda"], "--device and --set device=... are the same"),
        (["list", "suits"], "unknown kind 'suits'; did you mean 'suites'?"),
        (["report"], "RUN_DIR"),
        (["report", "nowhere"], "nowhere: not a run"),
        (["gate"], "nothing to compare with: name --base"),
        (["gate", "--base", "main", "--aa"], "--aa compares --head with itself; leave out --base"),
        (["gate", "--base-dir", "a"], "--base-dir and --head-dir go together"),
        (["gate", "--base", "main"], "not in a git repository"),
        (["gate", "--base-dir", "a", "--head-dir", "b"], "a: no such folder"),
        (["gate", "--aa", "--margin", "20%"], "--ignore-below 20% should be below --fail-above 10%"),
        (["gate", "--aa", "--promise", "ten"], "'ten' is not a share between 0% and 100%, such as 3%"),
        (["gate", "--aa", "--promise", "0"], "'0' is not a share"),
        (["gate", "--aa", "--suite", "gait"], "unknown suite 'gait'; did you mean 'gate'?"),
        (["gate", "--aa", "--cell", "resnet"], "--cell resnet: no cell's name holds it; cells: vit train"),
        (["gate", "--aa", "--json", "no/such/folder/x.json"], "there is no folder no/such/folder"),
        (["gate", "--replay", "nowhere.jsonl"], "nowhere.jsonl: can't be read"),
        (["gate", "--resume", "nowhere.jsonl"], "nowhere.jsonl: can't be read"),
        (["compare", "nowhere", "nowhere", "--fail-on", "speed:-10%"], "nowhere: not a run"),
        (["compare", "a", "b", "--fail-on", "sped:-10%"], "--fail-on sped:-10%: no such metric; did you mean 'speed'?"),
    ],
    ids=" ".join,
)
def test_words_that_mean_nothing_are_refused(words: list[str], said: str, refused: Callable[..., str]) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "epochs"], "--set epochs: expected KEY=VALUE"),
        (["--set", "epohcs=3"], "--set epohcs=3: unknown key 'epohcs'; did you mean 'epochs'?"),
        (["--set", "models.vit.dept=3"], "unknown key 'dept'; did you mean 'depth'?"),
        (["--set", "models.vti.depth=3"], "the suite has no model 'vti'; did you mean 'vit'?"),
        (["--set", "models.vit.model=vti"], "unknown model 'vti'; did you mean 'vit'?"),
        (["--set", "models=[]"], "--set models=[]: models: found [], expected at least 1 of them"),
        (["--set", "models=vit"], "models: found 'vit', expected a list"),
        (["--set", "models=[vit]"], "models.0: found 'vit', expected a mapping"),
        (["--set", "dataset=minst"], "unknown dataset 'minst'; did you mean 'mnist'?"),
        (["--set", "dtype=amp-bf61"], "unknown dtype 'amp-bf61'; did you mean 'amp-bf16'?"),
        (["--set", "optimizer=adamv"], "unknown optimizer 'adamv'; did you mean 'adam"),
        (["--set", "schedule=one_cycle"], "unknown schedule 'one_cycle'; did you mean 'one-cycle'?"),
        (["--set", "recipe=notbook"], "unknown recipe 'notbook'; did you mean 'notebook'?"),
        (["--set", "augment.flipp=1"], "unknown augmentation 'flipp'; did you mean 'flip'?"),
        (["--set", "augment={flip: often}"], "augment.flip: found 'often', expected a number"),
        (["--set", "learning_rate=fast"], "learning_rate: found 'fast', expected a number"),
        (["--set", "learning_rate=[]"], "learning_rate: the sweep is empty; give at least one value"),
        (["--set", "models.vit.depth=0"], "--set models.vit.depth=0: depth: found 0, expected at least 1"),
        (["--set", "models.vit.patch_size=3"], "patch_size 3 does not divide image_size 8 (scikit-learn digits)"),
        (["--set", "models.vit.num_heads=3"], "num_heads 3 does not divide embed_dim"),
        (["--set", "batch_size=2000"], "batch_size 2000 is larger than the 1250 training images"),
        (["--epochs", "-1"], "--set epochs=-1: epochs: found -1, expected at least 1"),
        (["--epochs", "0"], "epochs: found 0, expected at least 1"),
        (["--seeds", "0"], "seeds: found 0, expected at least 1"),
        (["--device", "gpu"], "device 'gpu': no such device"),
        (["--device", "cpu", "--device", "cuda"], "device 'cuda': this machine has 0 of kind cuda; here: "),
        (["--device", ""], "device: the sweep is empty"),
        (["--device", "a]b"], "the value is not YAML"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry-run"])
def test_settings_that_cannot_be_run_are_refused(
    words: list[str],
    said: str,
    dry: tuple[str, ...],
    mine: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device.CUDA, "count", staticmethod(lambda: 0))
    assert said in refused("--suite", mine, *words, *dry)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SUITE + "seeds: 3\n", "mine.yaml:6: 'seeds' stands here a second time"),
        (SUITE.replace("[2, 4]", "[2, 4"), "mine.yaml:3: not valid YAML"),
        (SUITE.replace("[2, 4]", "[2, 3]"), "mine.yaml:3: patch_size 3 does not divide image_size 8"),
        (SUITE.replace("dataset", "datset"), "mine.yaml:1: unknown key 'datset'; did you mean 'dataset'?"),
        (SUITE.replace("seeds: 2", "seeds: two"), "mine.yaml:5: seeds: found 'two', expected a whole number"),
        (SUITE.replace("model: cnn", "model: cnm"), "mine.yaml:4: unknown model 'cnm'; did you mean 'cnn'?"),
        ("- a\n- b\n", "mine.yaml: expected a mapping with 'dataset' and 'models'"),
        ("", "mine.yaml: expected a mapping with 'dataset' and 'models', found null"),
    ],
    ids=range(8),
)
def test_suites_that_cannot_be_run_are_refused(text: str, said: str, mine: Path, refused: Callable[..., str]) -> None:
    mine.write_text(text, encoding="utf-8")
    assert said in refused("--suite", mine)


def test_an_out_that_holds_something_else_is_left_alone(
    mine: Path, here: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.jpg").write_bytes(b"meow")
    assert "photos: already holds something" in refused("--suite", mine, "--out", "photos")
    assert not (tmp_path / "cache").exists()  # not even the dataset was fetched


def test_an_out_that_is_a_file_is_refused(mine: Path, here: Path, refused: Callable[..., str]) -> None:
    (here / "letter").touch()
    assert "letter" in refused("--suite", mine, "--out", "letter")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "old: not a run (it has no run.json)"),
        ("", "run.json: can't be read as a run's record"),
        ("[1]", "run.json: can't be read as a run's record"),
        ('{"schema_version": 4}', "convert it: python tests/benchmarks/convert_store.py old"),
        ('{"schema_version": -1}', f"run.json: schema version -1, this program reads 5 and {SCHEMA_VERSION}"),
    ],
)
def test_a_folder_that_is_no_run_cannot_be_resumed(
    record: str | None, said: str, here: Path, refused: Callable[..., str]
) -> None:
    (here / "old").mkdir()
    if record is not None:
        (here / "old" / "run.json").write_text(record, encoding="utf-8")
    assert said in refused("--resume", "old")
    assert said in refused("--resume", "old", "--dry-run")
    assert said in refused("report", "old")


def test_verify_counts_trials_and_launches(here: Path, typed: Typed) -> None:
    folder = make_run(Path("run"), configs=[("vit", 7, 2), ("cnn", None, 2)], dtypes=["fp32"], seeds=[0])
    assert typed("verify", "run") == (0, "run: 2 trials, whole\n", "")
    add_launches(folder, 1, rounds=1)
    assert typed("verify", "run") == (0, "run: 2 trials, 1 launch, whole\n", "")
    add_launches(folder, 2, rounds=1)
    (found,) = json.loads(typed("verify", "run", "--json")[1])
    assert (found["trials"], found["launches"], found["problems"]) == (2, 3, [])
    assert typed("verify", "run")[1] == "run: 2 trials, 3 launches, whole\n"


def test_a_run_whose_suite_has_changed_cannot_be_resumed(
    mine: Path, here: Path, typed: Typed, refused: Callable[..., str]
) -> None:
    options = ["seeds=1"]
    planned = json.loads(typed("--suite", mine, "--set", *options, "--dry-run", "--json")[1])
    names = [trial["trial_id"] for trial in planned["trials"]]
    record = {"schema_version": SCHEMA_VERSION, "source": str(mine), "options": options, "plan": names}
    (here / "old").mkdir()
    (here / "old" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    again = json.loads(typed("--resume", "old", "--dry-run", "--json")[1])
    assert [trial["trial_id"] for trial in again["trials"]] == names
    more = json.loads(typed("--resume", "old", "--seeds", "2", "--dry-run", "--json")[1])
    assert [trial["trial_id"] for trial in more["trials"]][: len(names)] == names  # more seeds change none of these
    changed = "old: suite 'mine' no longer has all trials of this run"
    assert changed in refused("--resume", "old", "--epochs", "9")
    mine.write_text(SUITE.replace("[2, 4]", "4"), encoding="utf-8")
    assert changed in refused("--resume", "old")


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda data: data[:-1], "cut short"), (lambda data: data[:-1] + b"\xff", "other contents")],
    ids=["cut short", "other contents"],
)
def test_a_dataset_that_is_not_what_it_should_be_is_refused(
    damage: Callable[[bytes], bytes], said: str, mine: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "given").mkdir()
    given = scikit_learn_digits(DATASETS["digits"], tmp_path / "given")
    file = given / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    message = refused("--suite", mine, "--data-dir", given)
    assert message.startswith("digits: ")
    assert file.name in message
    assert said in message


def test_a_data_dir_that_is_not_there_is_named(mine: Path, refused: Callable[..., str]) -> None:
    assert "there is no folder nowhere; correct --data-dir" in refused("--suite", mine, "--data-dir", "nowhere")


@pytest.mark.usefixtures("native_half_precision")
def test_short_options_are_settings(mine: Path, typed: Typed, here: Path) -> None:
    words = [
        "--epochs",
        "2",
        "--seeds",
        "3",
        "--device",
        "cpu",
        "--set",
        "batch_size=[32, 64]",
        "--set",
        "dtype=amp-bf16",
    ]
    status, out, err = typed("--suite", mine, *words, "--dry-run", "--json")
    trials = json.loads(out)["trials"]
    assert (status, err) == (0, "")
    assert len(trials) == 3 * 3 * 2
    assert {trial["training"]["epochs"] for trial in trials} == {2}
    assert {trial["training"]["batch_size"] for trial in trials} == {32, 64}
    assert {trial["seed"] for trial in trials} == {0, 1, 2}
    assert {(trial["device"], trial["dtype"]) for trial in trials} == {("cpu", "amp-bf16")}
    assert all(trial["num_params"] > 0 and trial["estimated_seconds"] > 0 for trial in trials)
    assert not [*here.iterdir()]


def test_a_dry_run_shows_the_plan_and_writes_nothing(mine: Path, typed: Typed, here: Path) -> None:
    status, out, err = typed("--suite", mine, "--dry-run")
    assert (status, err) == (0, "")
    assert "6 trials" in out
    assert "Nothing was run." in " ".join(out.split())
    assert not [*here.iterdir()]


def test_a_dry_run_counts_what_tuning_takes(mine: Path, typed: Typed) -> None:
    _, plain, _ = typed("--suite", mine, "--dry-run", "--json")
    _, tuned, _ = typed("--suite", mine, "--tune", "4", "--dry-run", "--json")
    more = json.loads(tuned)["estimated_seconds"] - json.loads(plain)["estimated_seconds"]
    assert more > 0
    _, out, _ = typed("--suite", mine, "--tune", "4", "--dry-run")
    assert "Before that, 4 settings of each family's recipe are tried, about" in " ".join(out.split())


@pytest.mark.parametrize("what", catalogue.LISTS)
def test_every_list_can_be_shown(what: str, typed: Typed) -> None:
    status, out, err = typed("list", what)
    assert (status, err) == (0, "")
    named = {"suites": "mnist-quick", "models": "patch_size", "datasets": "kmnist", "devices": "cpu", "dtypes": "fp32"}
    assert named[what] in out
    assert out.splitlines()[0].strip().startswith(what.removesuffix("s"))


def test_all_lists_are_shown_if_none_is_named(typed: Typed) -> None:
    out = typed("list")[1]
    assert all(word in out for word in ("mnist-full", "embed_dim", "fashion-mnist", "auto takes this", "amp-bf16"))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("1.5s", 1.5), ("10m", 600), ("1h30m", 5400), ("1h 5s", 3605), ("2h", 7200), ("0s", 0)],
)
def test_times_are_read_as_people_write_them(written: str, seconds: float) -> None:
    assert run_bench.Time().convert(written, None, None) == seconds


@pytest.mark.parametrize("written", ["", "m", "90", "1.5", "10x", "-1", "1m2h", "ten", "1.5m", "nan"])
def test_what_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter):
        run_bench.Time().convert(written, None, None)


def answering(status: int, folder: Path) -> Callable[[Any], Any]:
    verdict = conclusion.Verdict("CPU", "The CNN.", ["Take it."])
    return lambda request: conclusion.Answer(folder, [verdict], Counter(ok=3, failed=status), None, status)


@pytest.mark.parametrize("status", [0, 1])
def test_the_exit_status_is_the_sessions_and_the_answer_is_on_standard_output(
    status: int, mine: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_session", answering(status, Path("results/mine/now")))
    assert typed("--suite", mine)[0] == status
    found, out, err = typed("--suite", mine, "--json")
    assert (found, err) == (status, "")
    answer = json.loads(out)
    assert answer["exit_status"] == status
    assert answer["run"] == str(Path("results/mine/now"))
    assert answer["answers"][0]["headline"] == "The CNN."
    quiet = typed("--suite", mine, "--quiet")[1]
    assert "The CNN." in quiet
    assert "Take it." not in quiet


@pytest.mark.parametrize("name", ["", *sorted(run_bench.cli.commands)])
def test_help_fits_80_columns(name: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = typed(*filter(None, [name]), "--help")
    assert status == 0
    assert [line for line in out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("columns", [80, 200])
def test_the_end_is_a_dozen_lines_with_the_first_warning_and_a_count_of_the_others(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run = make_run(tmp_path / "run", overrides={"": {"throughput_spread": 0.2}})
    results.say(run, decide(read_tables(run)), quiet=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) <= 13
    assert all(len(line) <= columns for line in lines if "report.html" not in line)
    at = next(place for place, line in enumerate(lines) if line.startswith("Note: "))
    assert " more in the report)" in " ".join(lines[at:-1])
    assert len(lines) - 1 - at <= 2, "two lines at most, and then where the report is"


@pytest.mark.parametrize(
    ("warnings", "said"),
    [
        (["Short."], "Note: Short."),
        (["Short.", "b", "c"], "Note: Short. (2 more in the report)"),
        ([f"A clause (with {'x' * 90}); and more."], "Note: A clause (more in the report)"),
        ([f"Unfinished: 3 of 4. {'x' * 90}", "b"], "Note: Unfinished: 3 of 4 (1 more in the report)"),
        (["word " * 40], "Note: word word word word word word word word word word … (more in the report)"),
    ],
)
def test_a_long_warning_is_cut_to_its_main_clause(warnings: list[str], said: str) -> None:
    assert results._note(warnings, 40) == said


def test_at_any_width_no_figure_loses_a_digit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    run = make_run(tmp_path / "run")
    results.say(run, decide(read_tables(run)), quiet=False)
    table, _ = capsys.readouterr().out.split("Note: ")
    assert "\N{HORIZONTAL ELLIPSIS}" not in table


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "run/report.md"), "run/report.md: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "x.csv"), "x.csv: No space left on device"),
    ],
)
def test_a_file_that_cannot_be_written_costs_one_line(
    error: OSError, said: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("bench.report.build.write_report", fail)
    assert refused("report", "run") == said


def test_other_errors_of_the_system_are_told_whole(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr("bench.report.build.write_report", fail)
    with pytest.raises(ConnectionResetError):
        typed("report", "run")


def test_a_gate_that_crashes_itself_is_no_regression(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gate.driver.run_gate", lambda *_: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        typed("gate", "--aa")
    assert ended.value.code == 5


def test_an_interrupted_program_exits_with_130(mine: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(request: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "run_session", interrupted)
    status, out, err = typed("--suite", mine)
    assert (status, out, err.strip()) == (130, "", "interrupted")
