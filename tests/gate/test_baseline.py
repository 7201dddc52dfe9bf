"""A run against a stored baseline: normalised by the machine, advisory, and refused where it doesn't compare."""

import io
import json
import math
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_up import ENVIRONMENT, make_run
from rich.console import Console

from bench.cli.check import as_json, headline, show_check
from bench.errors import StoreError, UserError
from bench.gate.baseline import Machine, make_baseline, read_baseline, write_baseline
from bench.gate.baseline_check import Check, Line, check_run
from bench.gate.reference import REFERENCE_VERSION, REFERENCES

CPU = str(ENVIRONMENT["cpu"])
RUN_AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)  # when made-up trials begin
SECONDS = dict(zip(REFERENCES, (0.002, 0.04, 0.001, 0.01), strict=True))
VIT, CNN = "ViT p7 d2 fp32", "CNN d2 fp32"


def here(
    slower: float = 1.0, *, cpu: str = CPU, minutes: float = 10.0, odd: float = 1.0, moving: float = 1.0
) -> Machine:
    """A machine `minutes` after the run, `slower` times as slow as the first; its memory `odd` times more so.

    Each time that it is asked it is `moving` times as slow as the time before.
    """
    asked = 0

    def timed(threads: int) -> dict[str, float]:
        nonlocal asked
        assert threads == 2
        factor = slower * moving**asked
        asked += 1
        return {name: s * factor * (odd if name == "memory stream" else 1.0) for name, s in SECONDS.items()}

    return Machine(cpu, RUN_AT + timedelta(minutes=minutes), timed)


def run(folder: Path, **how: Any) -> Path:
    options: dict[str, Any] = {"configs": [("vit", 7, 2), ("cnn", None, 2)], "dtypes": ["fp32"], "epochs": 1} | how
    return make_run(folder, **options)


def environment(**changes: Any) -> dict[str, Any]:
    return {"changes": {"environment": ENVIRONMENT | changes}}


@pytest.fixture(scope="module")
def then(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the baseline was made of."""
    return run(tmp_path_factory.mktemp("runs") / "then")


@pytest.fixture(scope="module")
def stored(then: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "new" / "mnist.json"
    write_baseline(then, path, here())
    return path


@pytest.fixture
def baseline(stored: Path, tmp_path: Path) -> Path:
    """A copy of it for each test to spoil."""
    (tmp_path / "baselines").mkdir()
    return Path(shutil.copy(stored, tmp_path / "baselines"))


def line(found: Check, label: str) -> Line:
    (only,) = (each for each in found.lines if each.label == label)
    return only


def verdicts(found: Check) -> dict[str, str]:
    return {each.label: each.verdict for each in found.lines}


def shown(found: Check) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show_check(found, console)
    return console.export_text()


# The file


def test_a_baseline_says_where_it_comes_from(then: Path) -> None:
    content = make_baseline(then, here())
    assert content["format"] == 1
    made = content["provenance"]
    assert made["commit"] == ENVIRONMENT["git_commit"]
    assert made["dirty"] is False
    assert made["made_at"] == "2026-03-01T09:40:00+00:00"
    assert (made["torch"], made["cpu"], made["threads"]) == ("2.14.0", CPU, [2])
    assert made["command"] == ["run_bench.py", "--suite", "mnist"]
    assert made["seeds"] == [0, 1, 2]
    assert made["num_test_images"] == 10_000
    assert content["references"] == {"version": REFERENCE_VERSION, "threads": 2, "seconds": pytest.approx(SECONDS)}
    assert [each["label"] for each in content["configurations"]] == [VIT, CNN]
    assert [each["n"] for each in content["configurations"]] == [3, 3]


def test_what_was_not_measured_stays_empty_in_a_baseline(tmp_path: Path) -> None:
    folder = run(tmp_path / "then", overrides={"cnn": {"peak_memory_bytes": None}, "vit": {"status": "failed"}})
    (only,) = make_baseline(folder, here())["configurations"]
    assert only["label"] == CNN
    assert only["peak_memory_bytes"] is None


def test_a_written_baseline_reads_back_as_it_was_made(then: Path, baseline: Path) -> None:
    assert read_baseline(baseline).model_dump(mode="json") == make_baseline(then, here())
    text = baseline.read_text()
    assert text.endswith("}\n")
    assert '\n  "format": 1,\n' in f"\n{text}"


def test_a_baseline_that_can_t_be_replaced_is_left_whole(
    then: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = baseline.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match=r"mnist\.json: can't be written \(No space left on device\); name another"):
        write_baseline(then, baseline, here(2.0))
    assert baseline.read_bytes() == before


def test_an_update_replaces_the_baseline(then: Path, baseline: Path) -> None:
    write_baseline(then, baseline, here(2.0))
    assert read_baseline(baseline).references.seconds["matrix product"] == pytest.approx(0.004)
    assert [path.name for path in baseline.parent.iterdir()] == ["mnist.json"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"not JSON"),
        ('{"format": 1, "prov', r"not JSON"),
        ("[1, 2]", r"not a baseline of format 1 \(it has no format\)"),
        ('{"schema_version": 2}', r"not a baseline of format 1 \(it has no format\)"),
        ('{"format": 7}', r"not a baseline of format 1 \(it has format 7\)"),
        ('{"format": 1}', r"damaged at provenance \(Field required\)"),
    ],
)
def test_a_file_that_is_no_baseline_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=said) as caught:
        read_baseline(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("make it again with `run_bench.py check RUN --baseline FILE --update`")


def test_a_baseline_that_is_not_text_or_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="not JSON"):
        read_baseline(tmp_path / "b.json")
    with pytest.raises(StoreError, match="can't be read"):
        read_baseline(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("references", "seconds", "matrix product"), 0),
        (("references", "seconds"), {}),
        (("configurations", 0, "images_per_second"), -1.0),
        (("configurations", 0, "n"), 0),
        (("configurations", 1, "test_accuracy"), 97.0),
        (("configurations", 1, "color"), "red"),
        (("provenance", "cpu"), None),
    ],
)
def test_a_damaged_figure_is_named(baseline: Path, place: tuple[Any, ...], value: Any) -> None:
    content = json.loads(baseline.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    baseline.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=f"damaged at {'.'.join(map(str, place))} ") as caught:
        read_baseline(baseline)
    assert "\n" not in str(caught.value)


def test_a_run_in_which_nothing_ended_well_makes_no_baseline(tmp_path: Path) -> None:
    folder = run(tmp_path / "then", overrides={"": {"status": "failed"}})
    with pytest.raises(StoreError, match="no trial ended well"):
        make_baseline(folder, here())


@pytest.mark.parametrize(
    ("machine", "said"),
    [(here(minutes=300), r"it ended 5\.0 hours ago"), (here(cpu="Ryzen"), f"it was made on {CPU}, and this is Ryzen")],
)
def test_a_baseline_is_made_where_and_when_its_run_was(then: Path, machine: Machine, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        make_baseline(then, machine)


def test_a_machine_whose_speed_moves_makes_no_baseline(then: Path) -> None:
    with pytest.raises(StoreError, match=r"too busy for a baseline: its speed moved by 15% within seconds; run"):
        make_baseline(then, here(moving=1.15))
    seconds = make_baseline(then, here(moving=1.05))["references"]["seconds"]
    assert seconds["training step"] == pytest.approx(0.01 * 1.05**0.5)


# The comparison


def test_the_same_figures_on_the_same_machine_are_fine(then: Path, baseline: Path) -> None:
    found = check_run(then, baseline, here=here())
    assert verdicts(found) == {VIT: "ok", CNN: "ok"}
    assert (found.exit_status, found.machine, found.apart) == (0, pytest.approx(1.0), pytest.approx(1.0))
    assert [figure.change for figure in line(found, VIT).figures] == pytest.approx([1.0, 1.0, 0.0])


def test_a_machine_that_is_slower_today_is_no_slower_code(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"": {"speed": 1 / 1.4}})  # beyond the margin as it stands
    found = check_run(folder, baseline, here=here(1.4))
    assert verdicts(found) == {VIT: "ok", CNN: "ok"}
    assert found.machine == pytest.approx(1 / 1.4)
    assert line(found, CNN).figures[0].change == pytest.approx(1.0)
    assert check_run(folder, baseline, here=here()).exit_status == 1


def test_slower_code_shows_on_a_machine_that_is_a_fifth_slower_today(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"cnn": {"speed": 0.7 / 1.2}, "vit": {"speed": 1 / 1.2}})
    found = check_run(folder, baseline, here=here(1.2))
    assert verdicts(found) == {VIT: "ok", CNN: "slower"}
    assert line(found, CNN).figures[0].change == pytest.approx(0.7)
    assert found.exit_status == 1
    assert headline(found) == f"Worse than the baseline in 1 of 2 compared configurations: {CNN} (slower)."


def test_code_no_slower_on_a_machine_that_is_faster_today_hides_nothing(tmp_path: Path, baseline: Path) -> None:
    found = check_run(run(tmp_path / "now"), baseline, here=here(0.7))
    assert verdicts(found) == {VIT: "slower", CNN: "slower"}


@pytest.mark.parametrize(("speed", "verdict"), [(1 / 1.24, "ok"), (1 / 1.26, "slower"), (1.24, "ok"), (1.26, "faster")])
def test_the_margin_is_a_quarter_of_a_steps_time(tmp_path: Path, baseline: Path, speed: float, verdict: str) -> None:
    folder = run(tmp_path / "now", overrides={"vit": {"speed": speed}})
    assert verdicts(check_run(folder, baseline, here=here()))[VIT] == verdict


def test_another_margin_may_be_asked_for(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"vit": {"speed": 0.9}})
    assert verdicts(check_run(folder, baseline, margin=0.05, here=here()))[VIT] == "slower"


def test_a_tenth_more_memory_is_worse_and_is_never_normalised(tmp_path: Path, baseline: Path) -> None:
    before = read_baseline(baseline).configurations[0].peak_memory_bytes
    assert before
    changed = {"vit": {"peak_memory_bytes": round(1.12 * before)}, "cnn": {"peak_memory_bytes": 1}}
    folder = run(tmp_path / "now", overrides={name: {**change, "speed": 0.8} for name, change in changed.items()})
    found = check_run(folder, baseline, here=here(1.25))
    assert verdicts(found) == {VIT: "more memory", CNN: "less memory"}
    assert found.exit_status == 1


@pytest.mark.parametrize(("half_widths", "verdict"), [(2.9, "ok"), (3.1, "less accurate"), (-9, "ok")])
def test_a_fall_in_accuracy_is_held_against_what_the_test_images_can_tell(
    tmp_path: Path, baseline: Path, half_widths: float, verdict: str
) -> None:
    accuracy = read_baseline(baseline).configurations[1].test_accuracy
    assert accuracy is not None
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 10_000)
    changed = {"cnn": {"test_accuracy": min(1.0, accuracy - half_widths * half)}}
    found = check_run(run(tmp_path / "now", overrides=changed), baseline, here=here())
    assert verdicts(found)[CNN] == verdict


def test_configurations_that_only_one_side_has_are_named(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", configs=[("vit", 7, 2), ("vit", 14, 2)])
    found = check_run(folder, baseline, here=here())
    assert verdicts(found) == {VIT: "ok", CNN: "missing in run", "ViT p14 d2 fp32": "new"}
    assert found.exit_status == 4, "what was not measured is no pass"
    assert headline(found).endswith(f"; not measured in this run: {CNN}.")


def test_a_configuration_that_failed_is_missing_and_a_slower_one_outweighs_it(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"vit": {"status": "oom"}, "cnn": {"speed": 0.5}})
    found = check_run(folder, baseline, here=here())
    assert verdicts(found) == {VIT: "missing in run", CNN: "slower"}
    assert found.exit_status == 1


def test_trials_that_ran_side_by_side_have_no_speed_to_compare(tmp_path: Path, baseline: Path) -> None:
    found = check_run(run(tmp_path / "now", overrides={"": {"timed": False}}), baseline, here=here())
    assert verdicts(found) == {VIT: "not measured", CNN: "not measured"}
    assert found.exit_status == 4


def test_a_new_configuration_alone_costs_nothing(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", configs=[("vit", 7, 2), ("cnn", None, 2), ("cnn", None, 4)])
    assert check_run(folder, baseline, here=here()).exit_status == 0


def test_nothing_in_common_is_nothing_comparable_and_times_nothing(tmp_path: Path, baseline: Path) -> None:
    def never(threads: int) -> dict[str, float]:
        raise AssertionError

    folder = run(tmp_path / "now", configs=[("vit", 4, 4)])
    found = check_run(folder, baseline, here=Machine(CPU, RUN_AT, never))
    assert found.exit_status == 4
    assert headline(found).startswith("Nothing comparable")


# What is refused


@pytest.mark.parametrize(
    ("allowed", "how", "machine", "said"),
    [
        ("cpu", environment(cpu="Ryzen 9"), here(cpu="Ryzen 9"), f"CPU: {CPU} in the baseline, Ryzen 9 in the run"),
        ("torch", environment(torch="2.15.1"), here(), "torch: 2.14 in the baseline, 2.15 in the run"),
        ("threads", {"overrides": {"": {"num_threads": 1}}}, here(), "threads: 2 in the baseline, 1 in the run"),
        ("data", {"changes": {"dataset": {"checksum": "ff"}}}, here(), "ff in the run"),
        ("age", {}, here(minutes=90), "the run can't be normalised: it ended 1.5 hours ago"),
    ],
)
def test_other_conditions_are_refused_in_one_line_unless_allowed(
    tmp_path: Path, baseline: Path, allowed: str, how: dict[str, Any], machine: Machine, said: str
) -> None:
    folder = run(tmp_path / "now", **how)
    found = check_run(folder, baseline, here=machine)
    assert found.exit_status == 2
    assert not found.lines
    assert said in found.refused
    assert "\n" not in found.refused
    assert found.refused.endswith(f"compare like with like, or --allow {allowed}")
    taken = check_run(folder, baseline, {allowed}, here=machine)
    assert taken.exit_status == 0
    assert any(said in note and note.endswith("(allowed)") for note in taken.notes)


def test_all_that_differs_is_named_at_once(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", **environment(torch="2.15.0", cpu="Ryzen"), overrides={"": {"num_threads": 1}})
    machine = here(cpu="Ryzen")
    assert check_run(folder, baseline, here=machine).refused.endswith("--allow cpu,threads,torch")
    assert check_run(folder, baseline, {"cpu", "torch"}, here=machine).refused.endswith("--allow threads")
    assert check_run(folder, baseline, {"cpu", "torch", "threads"}, here=machine).exit_status == 0


def test_a_patch_release_of_torch_is_the_same_torch(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", **environment(torch="2.14.3+cpu"))
    assert check_run(folder, baseline, here=here()).exit_status == 0


def test_a_run_of_another_machine_can_t_be_normalised_here_whatever_is_allowed(then: Path, baseline: Path) -> None:
    found = check_run(then, baseline, {"cpu", "age"}, here=here(cpu="Ryzen"))
    assert found.exit_status == 2
    assert f"it was made on {CPU}, and this is Ryzen" in found.refused
    assert "--allow" not in found.refused


def test_references_that_disagree_are_inconclusive(then: Path, baseline: Path) -> None:
    found = check_run(then, baseline, here=here(odd=1.6))
    assert found.exit_status == 2
    assert found.refused.startswith("inconclusive")
    assert "memory stream 0.62" in found.refused
    assert found.apart == pytest.approx(1.6)
    assert not found.lines
    assert check_run(then, baseline, here=here(odd=1.4)).exit_status == 0


@pytest.mark.parametrize("moving", [1.2, 1 / 1.2])
def test_a_machine_whose_speed_moves_while_it_is_timed_is_inconclusive(
    then: Path, baseline: Path, moving: float
) -> None:
    found = check_run(then, baseline, here=here(moving=moving))
    assert found.exit_status == 2
    assert found.refused.startswith("inconclusive, this machine is too busy: its speed moved by 20% within seconds")


@pytest.mark.parametrize("change", [{"version": REFERENCE_VERSION + 1}, {"seconds": {"matrix product": 0.1}}])
def test_a_baseline_of_other_reference_work_is_refused(then: Path, baseline: Path, change: dict[str, Any]) -> None:
    content = json.loads(baseline.read_text())
    content["references"] |= change
    baseline.write_text(json.dumps(content))
    found = check_run(then, baseline, here=here())
    assert found.exit_status == 2
    assert "make the baseline again" in found.refused


def test_a_name_that_can_t_be_allowed_is_a_mistake(then: Path, baseline: Path) -> None:
    with pytest.raises(UserError, match=r"--allow thread: no such difference; did you mean 'threads'\?"):
        check_run(then, baseline, {"thread"}, here=here())


def test_other_devices_are_compared_as_measured_and_by_name(tmp_path: Path) -> None:
    def never(threads: int) -> dict[str, float]:
        raise AssertionError

    path = tmp_path / "b.json"
    write_baseline(run(tmp_path / "then", devices={"cuda": "H100"}), path, here())
    later = Machine(CPU, RUN_AT + timedelta(days=3), never)
    found = check_run(tmp_path / "then", path, here=later)
    assert (found.exit_status, found.machine) == (0, None)
    assert any("compared as they were measured" in note for note in found.notes)
    other = run(tmp_path / "now", devices={"cuda": "A100"})
    refused = check_run(other, path, here=later).refused
    assert refused == ("device: H100 in the baseline, A100 in the run; compare like with like, or --allow device")
    assert check_run(other, path, {"device"}, here=later).exit_status == 0


# What is shown


def test_the_table_says_each_figure_and_that_it_is_advice(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"cnn": {"speed": 0.5}, "vit": {"status": "failed"}})
    text = shown(check_run(folder, baseline, here=here(1.25)))
    assert "commit 0123456789ab" in text
    assert "0.80 times as fast as then" in text
    assert "matrix product 0.80" in text
    assert "60.0% slower" in text
    assert "missing in run" in text
    assert "Advisory" in text


def test_a_refusal_is_shown_without_a_table(then: Path, baseline: Path) -> None:
    text = shown(check_run(then, baseline, here=here(minutes=90)))
    assert "Refused: the run can't be normalised" in text
    assert "training speed" not in text


def test_a_check_as_json_holds_the_whole_of_it(tmp_path: Path, baseline: Path) -> None:
    folder = run(tmp_path / "now", overrides={"cnn": {"speed": 0.5}})
    found = json.loads(json.dumps(as_json(check_run(folder, baseline, here=here())), allow_nan=False))
    assert found["exit_status"] == 1
    assert found["headline"].startswith("Worse than the baseline in 1 of 2")
    assert found["provenance"]["cpu"] == CPU
    assert found["references"].keys() == REFERENCES.keys()
    (slow,) = (each for each in found["lines"] if each["label"] == CNN)
    assert slow["verdict"] == "slower"
    assert [figure["metric"] for figure in slow["figures"]] == [
        "images_per_second",
        "peak_memory_bytes",
        "test_accuracy",
    ]
