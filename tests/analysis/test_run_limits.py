"""Limits on what may change from one run to another: every verdict, refusal and exit status of `compare --fail-on`."""

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from made_up import ENVIRONMENT, make_run
from made_up_measured import MATMUL

import run_bench
from bench.analysis.comparison import Comparison
from bench.analysis.run_limits import EXIT_STATUS, METRICS, Judged, Judgement, judge, read_limit
from bench.analysis.summary import read_tables
from bench.errors import UserError
from bench.measure.stats import Interval

CPU = str(ENVIRONMENT["cpu"])
VIT, CNN = "ViT p7 d2 fp32", "CNN d2 fp32"
SPEED = "speed:-10%"
PEAK = "matmul_flops_per_second"


def run(folder: Path, **how: Any) -> Path:
    options: dict[str, Any] = {"configs": [("vit", 7, 2), ("cnn", None, 2)], "dtypes": ["fp32"]} | how
    return make_run(folder, **options)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("runs") / "before")


tables_of = functools.cache(read_tables)  # which takes longer than all that is judged; no run changes once it is made


def judged(before: Path, after: Path, *limits: str, allow: tuple[str, ...] = ()) -> Judgement:
    return judge(tables_of(before), tables_of(after), [read_limit(text) for text in limits or (SPEED,)], allow)


def verdicts(found: Judgement) -> dict[str, str]:
    return {each.label: each.verdict for each in found.judged}


def line(found: Judgement, label: str) -> Judged:
    (only,) = (each for each in found.judged if each.label == label)
    return only


def per_seed(name: str, **values: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Overrides of a configuration's three trials."""
    return {f"{name}-fp32-cpu-s{seed}": {key: by_seed[seed] for key, by_seed in values.items()} for seed in range(3)}


def command(*words: object) -> Result:
    return CliRunner().invoke(run_bench.cli, ["compare", *map(str, words)])


# What is asked for


def test_a_limit_is_a_metric_and_a_change_for_the_worse() -> None:
    assert read_limit("speed:-10%").change == pytest.approx(-0.10)
    assert read_limit(" memory : +2.5 % ").change == pytest.approx(0.025)
    assert read_limit("accuracy:-0.5").change == read_limit("accuracy:-0.5 points").change == pytest.approx(-0.005)
    assert read_limit("time-to-accuracy:+20%").metric == "time-to-accuracy"


@pytest.mark.parametrize(
    ("text", "limit", "worse"),
    [
        ("speed:-50%", 0.5, 0.0),
        ("memory:+25%", 1.25, math.inf),
        ("accuracy:-0.5", -0.005, -math.inf),
        ("time-to-accuracy:+100%", 2.0, math.inf),
    ],
)
def test_a_change_of_just_the_limit_still_passes(text: str, limit: float, worse: float) -> None:
    read = read_limit(text)
    assert not read.exceeded_by(limit)
    assert read.exceeded_by(math.nextafter(limit, worse))
    assert not read.exceeded_by(math.nextafter(limit, read.none))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sped:-10%", "no such metric; did you mean 'speed'?"),
        ("latencies:+1%", "no such metric; did you mean 'latency'?"),
        ("", "no such metric; known: accuracy, inference-speed, latency, memory, speed, time-to-accuracy"),
        ("speed", "should be METRIC:CHANGE, such as speed:-10%"),
        ("memory:a lot", "should be METRIC:CHANGE, such as memory:+10%"),
        ("speed:-10", "the unit is missing; speed changes by %: speed:-10%"),
        ("speed:-10x", "'x' is no unit of it; speed changes by %: speed:-10%"),
        ("accuracy:-1%", "'%' is no unit of it; accuracy changes by points: accuracy:-0.5"),
        ("speed:+10%", "speed gets worse by going down, and by less than 100; write a change such as speed:-10%"),
        ("speed:10%", "speed gets worse by going down"),
        ("speed:-0%", "speed gets worse by going down"),
        ("speed:-100%", "speed gets worse by going down"),
        ("memory:-10%", "memory gets worse by going up; write a change such as memory:+10%"),
        ("latency:-10%", "latency gets worse by going up"),
        ("time-to-accuracy:-10%", "time-to-accuracy gets worse by going up"),
    ],
)
def test_a_limit_that_means_nothing_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--fail-on {text}: {said}")) as caught:
        read_limit(text)
    assert "\n" not in str(caught.value)


# What is worse, and what isn't


def test_a_run_held_against_itself_passes(before: Path) -> None:
    every = (SPEED, "inference-speed:-1%", "latency:+1%", "memory:+1%", "accuracy:-1", "time-to-accuracy:+5%")
    found = judged(before, before, *every)
    assert {each.verdict for each in found.judged} == {"ok"}
    assert len(found.judged) == 2 * len(every)
    assert (found.exit_status, found.headline) == (0, "Nothing is worse than its limit, in 12 comparisons.")


@pytest.mark.parametrize(("speed", "verdict"), [(0.92, "ok"), (0.87, "worse"), (1.5, "ok")])
def test_a_speed_is_worse_only_beyond_its_limit(tmp_path: Path, before: Path, speed: float, verdict: str) -> None:
    found = judged(before, run(tmp_path / "after", overrides={"cnn": {"speed": speed}}))
    assert verdicts(found) == {VIT: "ok", CNN: verdict}
    assert found.exit_status == (1 if verdict == "worse" else 0)
    assert line(found, CNN).change == pytest.approx(speed - 1, abs=0.01)


@pytest.mark.parametrize(
    ("limit", "change", "told"),
    [
        ("memory:+10%", {"peak_memory_bytes": 10**9}, "memory +1435.1%"),
        ("accuracy:-0.5", {"test_accuracy": 0.9}, "accuracy -9.11 points"),
        ("latency:+10%", {"latency_p50_seconds": 1.0}, "latency +155755.3%"),
        ("inference-speed:-10%", {"inference_images_per_second": 1.0}, "inference-speed -100.0%"),
        ("time-to-accuracy:+10%", {"speed": 0.5}, "time-to-accuracy +100.0%"),
    ],
)
def test_every_metric_can_fail(tmp_path: Path, before: Path, limit: str, change: dict[str, Any], told: str) -> None:
    found = judged(before, run(tmp_path / "after", overrides={"cnn": change}), limit)
    assert verdicts(found) == {VIT: "ok", CNN: "worse"}
    assert found.exit_status == 1
    assert found.headline == f"Worse than the limit in 1 of 2 comparisons: {CNN} ({told})."


@pytest.mark.parametrize(
    ("limit", "metric", "ends", "verdict"),
    [
        ("memory:+10%", "peak_memory_bytes", (1.0, 2.0, 4.0), "uncertain"),
        ("memory:+10%", "peak_memory_bytes", (1.001, 2.0, 4.0), "worse"),
        ("accuracy:-0.5", "test_accuracy", (-0.02, -0.01, 0.0), "uncertain"),
        ("accuracy:-0.5", "test_accuracy", (-0.02, -0.01, -1e-9), "worse"),
        ("accuracy:-0.5", "test_accuracy", (-0.005, -0.002, 0.001), "ok"),
        ("accuracy:-0.5", "test_accuracy", (-0.0051, -0.002, 0.001), "uncertain"),
    ],
)
def test_an_interval_that_touches_no_change_or_the_limit_holds_it(
    before: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    metric: str,
    ends: tuple[float, float, float],
    verdict: str,
) -> None:
    found = Comparison(metric, Interval(*ends, 3))
    monkeypatch.setattr("bench.analysis.run_limits.change", lambda *_: found)
    assert {each.verdict for each in judged(before, before, limit).judged} == {verdict}


def test_a_headline_names_five_and_counts_the_others(tmp_path: Path, before: Path) -> None:
    worse = {"": {"speed": 0.5, "peak_memory_bytes": 2**40, "latency_p50_seconds": 9.0, "test_accuracy": 0.5}}
    limits = ("speed:-10%", "memory:+10%", "latency:+10%", "accuracy:-1")
    found = judged(before, run(tmp_path / "after", overrides=worse), *limits)
    assert found.headline.startswith("Worse than the limit in 8 of 8 comparisons: ")
    assert found.headline.endswith(" and 3 more.")


def test_an_interval_that_holds_both_the_limit_and_no_change_is_too_uncertain(tmp_path: Path, before: Path) -> None:
    (cnn,) = (row for row in tables_of(before).summary.to_dict("records") if row["model"] == "cnn")
    noisy = per_seed("cnn-d2", images_per_second=tuple(cnn["images_per_second"] * x for x in (0.7, 1.0, 1.3)))
    found = judged(before, run(tmp_path / "after", overrides=noisy))
    assert verdicts(found) == {VIT: "ok", CNN: "uncertain"}
    assert found.exit_status == 3
    assert "more seeds" in found.headline
    slower = per_seed("cnn-d2", images_per_second=tuple(cnn["images_per_second"] * x for x in (0.4, 0.8, 1.6)))
    beyond = judged(before, run(tmp_path / "slower", overrides=slower))
    assert line(beyond, CNN).change == pytest.approx(-0.2, abs=0.02)
    assert verdicts(beyond)[CNN] == "uncertain", "beyond the limit, but not shown to be a change"


@pytest.mark.parametrize(("speed", "verdict"), [(1.0, "ok"), (0.93, "uncertain"), (0.8, "worse")])
def test_what_has_no_interval_is_known_to_a_tenth(tmp_path: Path, speed: float, verdict: str) -> None:
    one: dict[str, Any] = {"seeds": [0], "overrides": {"": {PEAK: None}}}
    a = run(tmp_path / "a", **one)
    b = run(tmp_path / "b", seeds=[0], overrides={"": {PEAK: None, "speed": speed}})
    assert set(verdicts(judged(a, b, "time-to-accuracy:+10%")).values()) == {verdict}


def test_a_target_that_seeds_miss_is_worse_when_none_gets_there(tmp_path: Path, before: Path) -> None:
    limit = "time-to-accuracy:+10%"
    late: dict[str, dict[str, Any]] = {f"vit-p7-d2-fp32-cpu-s{seed}": {"evaluations": []} for seed in range(3)}
    none = run(tmp_path / "none", overrides=late)
    some = run(tmp_path / "some", overrides=dict(list(late.items())[:1]))
    assert verdicts(judged(before, none, limit)) == {VIT: "worse", CNN: "ok"}
    uncertain = judged(before, some, limit)
    assert verdicts(uncertain) == {VIT: "uncertain", CNN: "ok"}
    assert line(uncertain, VIT).reason == "target reached by 3 of 3 seeds, then by 2 of 3"
    assert verdicts(judged(none, before, limit)) == {VIT: "ok", CNN: "ok"}


# The machine's own speed


def test_a_machine_that_is_slower_today_is_no_slower_code(tmp_path: Path, before: Path) -> None:
    slow = {"speed": 0.7, PEAK: 0.7 * MATMUL}
    found = judged(before, run(tmp_path / "after", overrides={"": slow}))
    assert verdicts(found) == {VIT: "ok", CNN: "ok"}
    assert all(each.normalised for each in found.judged)
    assert [machine.speed for machine in found.machine.values()] == pytest.approx([0.7])
    assert "the machine was 0.70 times" in " ".join(found.notes)


def test_a_machine_that_is_faster_today_hides_nothing(tmp_path: Path, before: Path) -> None:
    found = judged(before, run(tmp_path / "after", overrides={"": {PEAK: 1.5 * MATMUL}}), SPEED, "latency:+10%")
    assert {each.verdict for each in found.judged} == {"worse"}
    assert line(judged(before, run(tmp_path / "b", overrides={"": {PEAK: 1.5 * MATMUL}})), CNN).change == pytest.approx(
        1 / 1.5 - 1
    )


def test_how_well_the_machines_speed_is_known_widens_the_interval(tmp_path: Path, before: Path) -> None:
    peaks = tuple(MATMUL * share for share in (0.4, 1.0, 2.0))
    noisy = per_seed("cnn-d2", **{PEAK: peaks}) | per_seed("vit-p7-d2", **{PEAK: peaks})
    assert judged(before, run(tmp_path / "after", overrides=noisy)).exit_status == 3


def test_without_the_machines_speed_figures_are_compared_as_measured(tmp_path: Path, before: Path) -> None:
    after = run(tmp_path / "after", overrides={"": {PEAK: None, "speed": 0.7}})
    found = judged(before, after)
    assert verdicts(found) == {VIT: "worse", CNN: "worse"}
    assert not found.machine
    assert any("as measured" in note for note in found.notes)


def test_a_machines_speed_is_that_with_as_many_threads_also_where_nobody_knows_how_many(tmp_path: Path) -> None:
    unknown: dict[str, Any] = {"num_threads": None}
    before, after = (
        run(tmp_path / name, seeds=[0], overrides={"vit": unknown | {PEAK: factor * MATMUL}})
        for name, factor in (("before", 1.0), ("after", 2.0))
    )
    machine = judged(before, after).machine
    assert {mode: found.speed for mode, found in machine.items()} == {
        f"{CPU}, fp32, unknown threads": pytest.approx(2.0),
        f"{CPU}, fp32, 2 threads": pytest.approx(1.0),
    }


def test_memory_and_accuracy_are_never_normalised(tmp_path: Path, before: Path) -> None:
    found = judged(before, run(tmp_path / "after", overrides={"": {PEAK: 2 * MATMUL}}), "memory:+1%", "accuracy:-1")
    assert {(each.verdict, each.normalised) for each in found.judged} == {("ok", False)}


# What isn't there


def test_configurations_of_one_run_only_do_not_pass(tmp_path: Path, before: Path) -> None:
    after = run(tmp_path / "after", configs=[("vit", 7, 2), ("cnn", None, 4)])
    found = judged(before, after)
    assert verdicts(found) == {VIT: "ok", CNN: "missing", "CNN d4 fp32": "missing"}
    assert (found.exit_status, line(found, CNN).reason) == (4, "in the first run only")
    new = judged(before, run(tmp_path / "new", configs=[("vit", 7, 2), ("cnn", None, 2), ("cnn", None, 4)]))
    assert new.exit_status == 4
    assert judged(before, tmp_path / "new", allow=("new",)).exit_status == 0
    assert judged(before, after, allow=("new",)).exit_status == 4, "one that is gone is never excused"


def test_something_worse_outweighs_what_is_missing_and_that_what_is_uncertain(tmp_path: Path, before: Path) -> None:
    after = run(tmp_path / "after", overrides={"vit": {"status": "oom"}, "cnn": {"speed": 0.5}})
    found = judged(before, after)
    assert verdicts(found) == {VIT: "missing", CNN: "worse"}
    assert found.exit_status == 1
    unsure = {"vit": {"status": "oom"}} | per_seed("cnn-d2", images_per_second=(1e3, 1e4, 1e5))
    mixed = judged(before, run(tmp_path / "mixed", overrides=unsure))
    assert verdicts(mixed) == {VIT: "missing", CNN: "uncertain"}
    assert mixed.exit_status == 4


def test_what_was_not_measured_is_no_pass(tmp_path: Path, before: Path) -> None:
    beside = run(tmp_path / "after", overrides={"": {"timed": False}})
    found = judged(before, beside)
    assert verdicts(found) == {VIT: "missing", CNN: "missing"}
    assert line(found, VIT).reason == "not measured in the second run"
    assert not line(found, VIT).normalised
    assert "normalised" not in " ".join(found.notes)
    neither = judged(beside, beside, SPEED, "latency:+10%", "accuracy:-1")
    assert neither.exit_status == 4
    assert "no configuration has been measured in both runs for speed:-10% and latency:+10%" in neither.headline
    aimless = run(tmp_path / "aimless", changes={"target_accuracy": None, "targets": []})
    for first in (aimless, before):
        assert judged(first, aimless, "time-to-accuracy:+10%").exit_status == 4


# What is refused


@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("cpu", {"changes": {"environment": ENVIRONMENT | {"cpu": "Ryzen 9"}}}, f"CPU: {CPU} in the first run"),
        ("torch", {"changes": {"environment": ENVIRONMENT | {"torch": "2.15.1"}}}, "2.15 in the second"),
        ("threads", {"overrides": {"": {"num_threads": 1}}}, "threads: 2 in the first run, 1 in the second"),
        ("threads", {"overrides": {"cnn": {"num_threads": None}}}, "threads: 2 in the first run, unknown in"),
        ("data", {"changes": {"dataset": {"checksum": "ff"}}}, "ff in the second"),
    ],
)
def test_unlike_runs_are_refused_in_one_line_unless_allowed(
    tmp_path: Path, before: Path, name: str, how: dict[str, Any], said: str
) -> None:
    after = run(tmp_path / "after", **how)
    with pytest.raises(UserError, match=f"; compare like with like, or --allow {name}$") as caught:
        judged(before, after)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    found = judged(before, after, allow=(name,))
    assert found.exit_status == 0
    assert any(said in note and note.endswith("(allowed)") for note in found.notes)


def test_all_that_differs_is_named_at_once(tmp_path: Path, before: Path) -> None:
    environment = ENVIRONMENT | {"torch": "2.15.0", "cpu": "Ryzen"}
    after = run(tmp_path / "after", changes={"environment": environment}, overrides={"": {"num_threads": 1}})
    with pytest.raises(UserError, match=r"--allow cpu,threads,torch$"):
        judged(before, after)
    with pytest.raises(UserError, match=r"--allow threads$"):
        judged(before, after, allow=("cpu", "torch"))


def test_a_patch_release_of_torch_is_the_same_torch(tmp_path: Path, before: Path) -> None:
    after = run(tmp_path / "after", changes={"environment": ENVIRONMENT | {"torch": "2.14.3+cpu"}})
    assert judged(before, after).exit_status == 0


def test_other_devices_are_compared_by_name(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", devices={"cuda": "H100"}), run(tmp_path / "b", devices={"cuda": "A100"})
    with pytest.raises(UserError, match=r"^device: H100 in the first run, A100 in the second; .* --allow device$"):
        judged(a, b)
    assert judged(a, a).exit_status == 0
    assert judged(a, b, allow=("device",)).exit_status == 0


def test_a_name_that_can_t_be_allowed_is_a_mistake(before: Path) -> None:
    with pytest.raises(UserError, match=r"--allow thread: no such difference; did you mean 'threads'\?"):
        judged(before, before, allow=("thread",))


# The command


def test_the_command_ends_with_the_limits_and_their_exit_status(tmp_path: Path, before: Path) -> None:
    page = tmp_path / "page.md"
    after = run(tmp_path / "after", overrides={"cnn": {"speed": 0.5}})
    done = command(before, after, "--fail-on", SPEED, "--fail-on", "memory:+10%", "--markdown", page)
    assert done.exit_code == 1, done.output
    for text in (done.output, page.read_text(encoding="utf-8").replace("\\", "")):
        assert f"Worse than the limit in 1 of 4 comparisons: {CNN} (speed -50" in text
        assert "memory:+10%" in text
        assert text.index("before") < text.index("Worse than the limit")
    assert command(before, before, "--fail-on", SPEED).exit_code == 0


def test_the_json_holds_verdicts_and_exit_status(tmp_path: Path, before: Path) -> None:
    done = command(before, run(tmp_path / "b", overrides={"vit": {"status": "oom"}}), "--fail-on", SPEED, "--json")
    found = json.loads(done.output, parse_constant=lambda name: pytest.fail(name))
    assert (done.exit_code, found["limits"]["exit_status"], found["limits"]["verdict"]) == (4, 4, "missing")
    assert {each["label"]: each["verdict"] for each in found["limits"]["judged"]} == {VIT: "missing", CNN: "ok"}
    assert list(found["limits"]["machine"].values()) == [{"low": 1.0, "speed": 1.0, "high": 1.0}]
    assert "limits" not in json.loads(command(before, before, "--json").output)


def test_without_a_limit_nothing_fails_and_nothing_is_refused(tmp_path: Path, before: Path) -> None:
    other = {"changes": {"environment": ENVIRONMENT | {"cpu": "Ryzen 9"}}}
    done = command(before, run(tmp_path / "b", overrides={"": {"speed": 0.3}}, **other))
    assert done.exit_code == 0
    assert "Limits" not in done.output
    with pytest.raises(UserError, match="--allow goes with --fail-on"):
        CliRunner().invoke(
            run_bench.cli, ["compare", str(before), str(before), "--allow", "cpu"], catch_exceptions=False
        )


def test_runs_with_nothing_in_common_are_nothing_comparable(tmp_path: Path, before: Path) -> None:
    done = command(before, run(tmp_path / "b", configs=[("vit", 4, 4)]), "--fail-on", SPEED)
    assert done.exit_code == 4, done.output
    assert "Not comparable" in done.output


def test_the_how_to_gives_each_metric_and_each_exit_status() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    section = text.partition("## Against a stored run")[2].partition("\n## ")[0]
    assert set(METRICS) <= set(re.findall(r"`([a-z-]+)`", section))
    for status in (*EXIT_STATUS.values(), 2):
        assert re.search(rf"^\| {status} \| ", section, re.MULTILINE)
