"""Two runs compared: what changed, how surely, and what else was different."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_up import ENVIRONMENT, make_run

import run_bench
from bench.analysis.run_comparison import Change, Changes, compare_runs, compare_tables
from bench.analysis.run_limits import judge, read_limit
from bench.analysis.summary import read_tables
from bench.analysis.verdict import decide
from bench.cli.results import as_markdown
from bench.errors import StoreError, UserError

SMALL = [("vit", 7, 2), ("cnn", None, 2)]


def run(folder: Path, **how: Any) -> Path:
    options: dict[str, Any] = {"configs": SMALL, "dtypes": ["fp32"]} | how
    return make_run(folder, **options)


def changes(tmp_path: Path, **how: Any) -> Changes:
    return compare_runs(run(tmp_path / "a"), run(tmp_path / "b", **how))


def change(found: Changes, label: str, title: str) -> Change:
    (only,) = (each for each in found.changes if (each.label, each.title) == (label, title))
    return only


def test_a_run_compared_with_itself_shows_no_difference(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    found = compare_runs(folder, folder)
    verdicts = {each.title: each.verdict for each in found.changes}
    assert verdicts.pop("test accuracy") == "no difference shown"  # the test images can't tell a tenth of a point
    assert verdicts.pop("time to 97%") == "no difference shown"  # nor two evaluations what lies between them
    assert set(verdicts.values()) == {"equivalent within 3%"}
    assert len(found.changes) == 2 * 5
    assert found.conditions == found.only_a == found.only_b == []


def test_a_change_has_its_interval_and_says_which_way_is_better(tmp_path: Path) -> None:
    found = changes(tmp_path, overrides={"cnn": {"speed": 1.5}, "vit": {"test_accuracy": 0.9}})
    speed = change(found, "CNN d2 fp32", "training speed")
    assert (speed.verdict, speed.paired, speed.n_a, speed.n_b) == ("better", True, 3, 3)
    assert (speed.a, speed.b) == (pytest.approx(16_555.28), pytest.approx(24_832.92))
    assert (speed.a_text, speed.b_text, speed.amount_text) == ("16,600 images/s", "24,800 images/s", "1.50")
    assert speed.low is not None
    assert speed.high is not None
    assert speed.low - 1e-9 <= 1.5 <= speed.high + 1e-9
    sooner = change(found, "CNN d2 fp32", "time to 97%")
    assert sooner.verdict == "better"
    assert sooner.amount == pytest.approx(1 / 1.5)
    accuracy = change(found, "ViT p7 d2 fp32", "test accuracy")
    assert accuracy.verdict == "worse"
    assert accuracy.amount_text == "-7.34 points"
    assert change(found, "ViT p7 d2 fp32", "peak memory").verdict == "equivalent within 3%"
    assert "training speed: equivalent within 3% in 1 and better in 1 of 2 configurations" in found.summary


def test_accuracies_of_two_runs_are_as_sure_as_the_test_images_of_each(tmp_path: Path) -> None:
    accuracies = {10_000: 0.9, 400: 0.6}
    many, few = (
        run(tmp_path / f"{n}", changes={"split": {"test": n}}, overrides={"": {"test_accuracy": accuracy}})
        for n, accuracy in accuracies.items()
    )
    half = math.hypot(*(1.96 * math.sqrt(p * (1 - p) / n) for n, p in accuracies.items()))
    found = change(compare_runs(many, few), "CNN d2 fp32", "test accuracy")
    assert (found.low, found.high) == (pytest.approx(-0.3 - half, abs=1e-3), pytest.approx(-0.3 + half, abs=1e-3))


def test_a_peak_of_memory_that_differs_by_less_than_pages_do_shows_no_difference(tmp_path: Path) -> None:
    mebibyte = 2**20
    before = run(tmp_path / "a", overrides={"": {"peak_memory_bytes": 4 * mebibyte}})
    for more, verdict in ((mebibyte - 1, "no difference shown"), (mebibyte, "worse")):
        after = run(tmp_path / str(more), overrides={"": {"peak_memory_bytes": 4 * mebibyte + more}})
        assert change(compare_runs(before, after), "CNN d2 fp32", "peak memory").verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.015, "no difference shown (one seed)"), (0.8, "worse (one seed)")])
def test_of_one_seed_a_speed_has_the_interval_of_its_blocks(tmp_path: Path, factor: float, verdict: str) -> None:
    one: dict[str, Any] = {"seeds": [0]}
    a, b = run(tmp_path / "a", **one), run(tmp_path / "b", **one, overrides={"": {"speed": factor}})
    found = compare_runs(a, b)
    speed = change(found, "CNN d2 fp32", "training speed")
    assert speed.low is not None
    assert (speed.verdict, speed.low) == (verdict, pytest.approx(factor * 0.979, rel=0.001))
    assert change(found, "CNN d2 fp32", "time to 97%").verdict == "no difference shown (one seed)"
    assert any(note.startswith("Of one seed") for note in found.notes)


def test_one_of_a_kind_is_told_in_the_singular(tmp_path: Path) -> None:
    tables = read_tables(run(tmp_path / "a", configs=SMALL[:1], seeds=[0]))
    assert {line.rpartition(" of ")[2] for line in compare_tables(tables, tables).summary} == {"1 configuration"}
    judgement = judge(tables, tables, [read_limit("memory:+10%")])
    assert judgement.headline == "Nothing is worse than its limit, in 1 comparison."
    (verdict,) = decide(tables)
    assert "n = 1 seed); no other family" in verdict.headline


def test_of_many_comparisons_some_show_a_difference_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = read_tables(run(tmp_path / "a", seeds=[0]))
    for many, told in ((9, True), (10, True), (11, False)):  # there are ten
        monkeypatch.setattr("bench.analysis.run_comparison.MANY", many)
        said = "Of 10 comparisons at 95%, about one in twenty shows a difference by chance."
        assert (said in compare_tables(tables, tables).notes) is told


def test_what_differs_around_the_runs_is_told(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"torch": "2.15.0", "cpu": "Other", "git_dirty": True}
    data = {"name": "mnist", "checksum": "feed"}
    found = changes(tmp_path, changes={"environment": environment, "dataset": data}, overrides={"": {"num_threads": 1}})
    assert found.conditions == [
        "torch: 2.14.0, then 2.15.0",
        "CPU: AMD EPYC 7R13, then Other",
        "commit: 0123456789ab, then 0123456789ab with uncommitted changes",
        "threads: 2, then 1",
        "checksum of the data: 6bbc9ace898e44ae57da46a324031adb, then feed",
    ]


def test_speeds_of_different_devices_are_shown_and_not_judged(tmp_path: Path) -> None:
    found = changes(tmp_path, devices={"cpu": "Other CPU"}, overrides={"": {"speed": 2.0}})
    assert "device: AMD EPYC 7R13, then Other CPU" in found.conditions
    speed = change(found, "CNN d2 fp32", "training speed")
    assert speed.verdict == "not comparable: other device"
    assert speed.amount == pytest.approx(2.0, rel=0.1)
    assert change(found, "CNN d2 fp32", "test accuracy").verdict == "no difference shown"
    back = compare_runs(tmp_path / "b", tmp_path / "a")
    assert change(back, "CNN d2 fp32", "training speed").verdict == "not comparable: other device"


def test_configurations_of_one_run_only_are_listed(tmp_path: Path) -> None:
    a = run(tmp_path / "a", configs=[*SMALL, ("vit", 14, 2)])
    b = run(tmp_path / "b", configs=[*SMALL, ("cnn", None, 4)])
    found = compare_runs(a, b)
    assert (found.only_a, found.only_b) == (["ViT p14 d2 fp32"], ["CNN d4 fp32"])
    assert {each.label for each in found.changes} == {"ViT p7 d2 fp32", "CNN d2 fp32"}


def test_a_target_that_some_seed_missed_has_counts_and_no_ratio(tmp_path: Path) -> None:
    late: dict[str, Any] = {"vit-p7-d2-fp32-cpu-s1": {"evaluations": []}}
    time = change(changes(tmp_path, overrides=late), "ViT p7 d2 fp32", "time to 97%")
    assert (time.verdict, time.amount, time.b_text[-8:]) == ("not reached by every seed", None, "(2 of 3)")


def test_a_target_that_nobody_reached_has_no_row(tmp_path: Path) -> None:
    goal = {"target_accuracy": 0.98}
    found = compare_runs(run(tmp_path / "a", changes=goal), run(tmp_path / "b", changes=goal))
    assert [each.label for each in found.changes if each.title == "time to 98%"] == ["CNN d2 fp32"]


def test_an_unfinished_run_is_compared_as_far_as_it_got(tmp_path: Path) -> None:
    plan = [f"vit-p7-d2-fp32-cpu-s{seed}" for seed in range(6)]
    found = changes(tmp_path, configs=SMALL[:1], seeds=[0, 1], changes={"plan": plan})
    assert found.conditions == [f"{tmp_path / 'b'} isn't finished"]
    assert found.only_a == ["CNN d2 fp32"]
    accuracy = change(found, "ViT p7 d2 fp32", "test accuracy")
    assert (accuracy.n_a, accuracy.n_b) == (3, 2)


def test_failed_trials_are_no_measurements(tmp_path: Path) -> None:
    found = changes(tmp_path, overrides={"cnn": {"status": "failed", "error": "boom"}})
    assert change(found, "CNN d2 fp32", "test accuracy").verdict == "measured in one run only"
    assert change(found, "CNN d2 fp32", "test accuracy").b_text == "–"


def test_runs_with_nothing_in_common_are_refused_in_one_line(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", configs=SMALL[:1]), run(tmp_path / "b", configs=SMALL[1:])
    with pytest.raises(StoreError, match="no configuration in common"):
        compare_runs(a, b)
    with pytest.raises(StoreError, match="not a run"):
        compare_runs(a, tmp_path)


def test_what_keeps_runs_from_being_compared_is_named(tmp_path: Path) -> None:
    settings = {
        "": {"config_id": "other", "training": json.dumps({"learning_rate": 0.05, "epochs": 2}), "settings": "{}"}
    }
    a, b = run(tmp_path / "a", configs=SMALL[:1]), run(tmp_path / "b", configs=SMALL[:1], overrides=settings)
    with pytest.raises(StoreError, match=r"in common \(\d+ and \d+ of their own; ViT: unlike in .*learning_rate"):
        compare_runs(a, b)


def test_a_tuned_run_beside_one_that_was_not_is_said(tmp_path: Path) -> None:
    plain, tuned, cut = (
        run(tmp_path / (how or "plain"), changes={"tune": 16, "tuned": how} if how else {})
        for how in ("", "whole", "cut")
    )
    assert "recipes: the suite's own, then the best of 16 tried" in compare_runs(plain, tuned).conditions
    assert compare_runs(plain, cut).conditions == []


def test_the_command_prints_the_conditions_before_any_figure(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"torch": "2.15.0"}
    a, b = run(tmp_path / "a"), run(tmp_path / "b", changes={"environment": environment})
    page = tmp_path / "page.md"
    result = CliRunner().invoke(run_bench.cli, ["compare", str(a), str(b), "--markdown", str(page)])
    assert result.exit_code == 0, result.output
    assert result.output.index("torch: 2.14.0, then 2.15.0") < result.output.index("In short")
    assert "no difference shown" in result.output
    assert page.read_text(encoding="utf-8") == as_markdown(compare_runs(a, b))


def test_json_has_numbers_and_no_nan(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", seeds=[0]), run(tmp_path / "b", seeds=[0])
    result = CliRunner().invoke(run_bench.cli, ["compare", str(a), str(b), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output, parse_constant=lambda name: pytest.fail(name))
    speed = next(each for each in found["changes"] if each["metric"] == "images_per_second")
    assert (speed["amount"], speed["n_a"]) == (1.0, 1)
    time = next(each for each in found["changes"] if each["metric"] == "seconds_to_0.97")
    assert (time["amount"], time["low"]) == (1.0, None)


def test_markdown_cannot_be_broken_by_names(tmp_path: Path) -> None:
    nasty = {"": {"device_name": "a | <b> *c*"}}
    text = as_markdown(compare_runs(run(tmp_path / "a"), run(tmp_path / "b", overrides=nasty)))
    assert r"a \| \<b\> \*c\*" in text
    rows = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


def test_a_file_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    a = run(tmp_path / "a")
    there = str(tmp_path / "no" / "x.md")
    with pytest.raises(UserError, match="can't be written"):
        CliRunner().invoke(run_bench.cli, ["compare", str(a), str(a), "--markdown", there], catch_exceptions=False)
