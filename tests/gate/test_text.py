"""What people and CI systems read of a gate: text, Markdown, JSON, JUnit, two benchmark tools' shapes, CI files."""

import io
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
import yaml
from made_up_gate import (
    CELLS,
    MORE,
    crashing,
    make_decision,
    make_record,
    passing,
    regressing,
    undecided,
)
from rich.console import Console

from bench.cli.gate import gate
from bench.config.suite_file import read_suite
from bench.gate.decision import EXIT_STATUS, CellVerdict, Decision, Estimate
from bench.gate.exports import as_github_benchmark, as_json, as_junit, as_pytest_benchmark
from bench.gate.journal import Failure, Record
from bench.gate.request import configurations
from bench.gate.text import (
    MARKER,
    as_markdown,
    caught_in_percent,
    change_in_words,
    clipped,
    interval_in_percent,
    show_decision,
)

ROOT = Path(__file__).parents[2]
NASTY = "a|b <b>`c`\n\x1b[31m[red]@torch"
REGRESSION = make_decision(passing(), regressing(), work=(MORE,), launches={"screen": 8, "confirm": 8})
DECISIONS = {
    "pass": make_decision(passing(), passing("cnn train")),
    "regression": REGRESSION,
    "inconclusive": make_decision(passing(), undecided()),
    "warned": make_decision(passing(), undecided(), exit_status=0),
    "crashed": make_decision(passing(), crashing()[0], failures=(crashing()[1],)),
    "nothing": make_decision(verdict="missing", headline="Nothing was compared.", launches={}),
}


def test_of_a_long_reason_its_start_stays_and_of_a_traceback_its_end() -> None:
    line = f"unknown key 'foo'; known: {'key, ' * 100}"
    assert clipped(line, 300) == f"{line[:300]} ..."
    assert clipped(f"Traceback\n{line}x", 300) == f"... {line[-299:]}x"
    assert clipped("short\n", 300) == "short"


def shown(decision: Decision, record: Record | None = None, width: int = 80) -> str:
    stream = io.StringIO()
    show_decision(decision, record or make_record(), Console(file=stream, width=width))
    return stream.getvalue()


# --- words ---


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (Estimate(1.02, 1.041, 1.06, 8), "4.1% slower"),
        (Estimate(0.98, 0.988, 0.99, 8), "1.2% faster"),
        (Estimate(0.992, 1.003, 1.021, 8), "0.3% slower: no difference shown"),
        (Estimate(0.99, 0.9997, 1.01, 8), "0.0%: no difference shown"),
        (Estimate(1.0001, 1.0003, 1.0005, 8), "under 0.1% slower"),
        (Estimate(math.nan, 1.2, math.inf, 1), "20.0% slower: no difference shown"),
        (Estimate(2.2, 2.5, 2.9, 8), "150% slower"),
        (None, "not measured"),
    ],
)
def test_a_change_is_said_in_words(estimate: Estimate | None, words: str) -> None:
    assert change_in_words(estimate) == words


@pytest.mark.parametrize(
    ("estimate", "interval"),
    [
        (Estimate(0.992, 1.003, 1.021, 8), "-0.8% to +2.1%"),
        (Estimate(1.088, 1.113, 1.139, 8), "+8.8% to +13.9%"),
        (Estimate(0.99996, 1.0, math.inf, 2), "0.0% to ?"),
        (None, "–"),
    ],
)
def test_an_interval_has_a_sign_at_either_end(estimate: Estimate | None, interval: str) -> None:
    assert interval_in_percent(estimate) == interval


def test_what_would_have_been_caught_is_rounded_up() -> None:
    found = [caught_in_percent(x) for x in (0.055, 0.06, 0.0601, 0.001, 0.21, None, math.inf)]
    assert found == ["6%", "6%", "7%", "1%", "21%", "–", "–"]


# --- the terminal ---


@pytest.mark.parametrize("name", DECISIONS)
def test_the_terminal_gets_at_most_80_columns_and_no_colours_when_piped(name: str) -> None:
    text = shown(DECISIONS[name])
    told, _, command = text.partition("Again:")
    assert max(map(len, told.splitlines())) <= 80
    assert command.strip() == "run_bench.py gate --base origin/main --budget 2m"
    assert "\x1b" not in text


def test_the_verdict_comes_first_and_every_column_is_whole_at_80_columns() -> None:
    text = shown(REGRESSION)
    assert text.startswith("Regression: cnn train is 11.3% slower")
    assert re.search(r"^cnn train +11.3% slower +\+8.8% to \+13.9% regression +7% 8$", text, re.MULTILINE)
    assert "0.3% slower: no " in text
    assert "operators 412 -> 416, more work" in text
    assert "8 of all cells, 8 fresh ones of those flagged or left open" in text
    assert "vit train 1.8%, cnn train 2.1%" in " ".join(text.split())


@pytest.mark.parametrize("name", ["vit train", "cnn dim 64 stem conv5x5 width 16 depth 2 infer", "x" * 90])
def test_no_figure_is_cut_short_however_long_a_name_is(name: str) -> None:
    wide = replace(regressing(name), estimate=Estimate(1.123, 1.146, 1.17, 16), detectable=0.21)
    lines = shown(make_decision(wide, replace(undecided(), estimate=Estimate(0.871, 1.04, 1.118, 30)))).splitlines()
    assert any(re.search(r" \+12\.3% to \+17\.0% regression +21% 16$", line) for line in lines)
    assert any(re.search(r" -12\.9% to \+11\.8% inconclusive +21% 30$", line) for line in lines)
    assert max(map(len, lines[:6])) <= 80


def test_a_warning_says_that_it_does_not_fail() -> None:
    assert "exit status 0, verdict inconclusive" in " ".join(shown(DECISIONS["warned"]).split())
    assert "exit status" not in shown(DECISIONS["inconclusive"])


def test_a_cell_that_looks_slower_is_not_called_noise() -> None:
    found = replace(undecided(), estimate=Estimate(1.094, 1.104, 1.115, 30), reason="flagged at 10.4%")
    assert "A cell looks slower" in shown(make_decision(passing(), found))
    assert "A cell looks slower" not in shown(DECISIONS["inconclusive"])


def test_names_cannot_give_orders_to_the_terminal() -> None:
    text = shown(make_decision(passing(NASTY)), make_record(head={"name": NASTY, "commit": None}), width=200)
    assert "\x1b" not in text
    assert text.count("a|b <b>`c` [31m[red]@torch") >= 2  # shown as it is, on one line


def test_where_nothing_was_timed_the_table_says_why_instead_of_dashes() -> None:
    cells = [CellVerdict(cell, "pass", reason="only its work was compared") for cell in CELLS]
    text = shown(make_decision(*cells, launches={}))
    assert "95% interval" not in text
    assert text.count("only its work was compared") == 2
    assert "does no more than one of base. Nothing was timed" in text
    accepted = shown(make_decision(*cells, launches={}, work=(MORE,)))
    assert "and that was accepted" in accepted
    assert "does no more" not in accepted


def test_a_tree_against_itself_tells_of_the_machine() -> None:
    record = make_record(aa=True, base={"name": "main", "commit": "abc"}, head={"name": "main", "commit": "abc"})
    quiet, alarm = (" ".join(shown(decision, record).split()) for decision in (DECISIONS["pass"], REGRESSION))
    assert "main (abc) against itself." in quiet
    assert "what it can tell in this time" in quiet
    assert "this is a false alarm" in alarm


# --- Markdown ---


def cells_of(row: str) -> list[str]:
    """A table row as GitHub splits it: at every pipe without a backslash before it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]


@pytest.mark.parametrize("name", DECISIONS)
def test_markdown_begins_with_the_marker_then_the_verdict(name: str) -> None:
    marker, title, verdict = as_markdown(DECISIONS[name], make_record()).split("\n\n")[:3]
    assert marker == MARKER
    assert title == "## Throughput gate"
    assert DECISIONS[name].headline.split(":")[0] in verdict.replace("\\", "")


def test_markdown_holds_all_that_a_reader_needs() -> None:
    text = as_markdown(REGRESSION, make_record(confirm=8))
    table = [cells_of(line) for line in text.splitlines() if line.startswith("|")]
    assert table[0] == ["cell", "change", "95% interval", "verdict", "would have caught", "n"]
    assert table[3] == ["cnn train", "11.3% slower", "+8.8% to +13.9%", "regression", "7%", "8"]
    for wanted in (
        "- launches took: 104 s",
        "- cnn train: operators 412 -\\> 416, more work: 4 more aten.clone (float32) a step",
        "- launches: 8 of all cells, 8 fresh ones of those flagged or left open",
        "scatters by (standard deviation): vit train 1.8%, cnn train 2.1%",
        "fresh launches confirmed it; running again is no cure",
        "```\nrun_bench.py gate --base origin/main --budget 2m\n```",
        "Head fast-attention (89abcdef0123) against base origin/main (0123456789ab).",
    ):
        assert wanted in text
    assert text.index("<details>") < text.index("AMD EPYC 7R13") < text.index("</details>")


def test_more_work_alone_is_told_as_such() -> None:
    decision = make_decision(passing(), verdict="regression", headline="More work a step in cnn train.", work=(MORE,))
    text = as_markdown(decision, make_record())
    assert "counted, not timed" in text
    assert "fresh launches confirmed" not in text


def test_names_can_end_neither_a_cell_nor_a_code_block_nor_call_a_person() -> None:
    reason = f"Traceback\n```\n</details>{NASTY}"
    verdict, failure = crashing(NASTY, reason)
    record = make_record(head={"name": NASTY, "commit": "abc"}, command=f"run_bench.py gate --head '{NASTY}'")
    text = as_markdown(make_decision(passing(NASTY), verdict, failures=(failure,)), record)
    rows = [cells_of(line) for line in text.splitlines() if line.startswith("|")]
    assert [len(row) for row in rows[:4]] == [6] * 4
    outside = "".join(re.split(r"(?ms)^(`{3,})$.*?^\1$", text)[::2])
    assert outside.count("</details>") == 1
    assert "@torch" not in outside
    assert "<b>" not in outside.replace("\\<b\\>", "")


@pytest.mark.parametrize("count", [2, 250, 1000])
def test_markdown_fits_into_a_comment(count: int) -> None:
    cells = [passing(f"configuration-{number}/{'x' * 60}") for number in range(count)]
    failures = tuple(Failure("crash", "head", None, "x\n" * 5000) for _ in range(10))
    text = as_markdown(make_decision(*cells, failures=failures, work=(MORE,) * 500), make_record())
    assert len(text) <= 65_536
    assert text.endswith("`--json` has it.\n") == (count > 2)
    assert ("and 470 more: see --json" in text) == (count < 1000)


# --- JSON ---


def strict(value: Any) -> Any:
    """Through a file and back; NaN and infinity are errors."""
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("name", DECISIONS)
def test_json_has_the_same_keys_whatever_came_out(name: str) -> None:
    found = strict(as_json(DECISIONS[name], make_record()))
    assert list(found) == list(strict(as_json(REGRESSION, Record({}))))
    assert found["verdict"] == DECISIONS[name].verdict
    assert found["exit_status"] == DECISIONS[name].exit_status
    assert all(list(cell) == list(as_json(REGRESSION, Record({}))["cells"][0]) for cell in found["cells"])


def test_json_is_complete_and_what_is_not_measured_is_null() -> None:
    broken = CellVerdict("x", "inconclusive", Estimate(math.nan, 1.1, math.inf, 1), noise=math.nan)
    decision = make_decision(regressing(), broken, work=(MORE,), failures=(crashing()[1],), notes=("a note",))
    found = strict(as_json(decision, make_record(suite="gate")))
    assert found["cells"][0]["ratio"] == 1.113
    assert found["cells"][0]["head_seconds_per_step"] == 0.0286
    assert [found["cells"][1][key] for key in ("ratio_low", "ratio_high", "noise", "p_screen")] == [None] * 4
    assert found["work"][0]["detail"] == "4 more aten.clone (float32) a step"
    assert found["failures"][0]["kind"] == "crash"
    assert found["launches"] == {"screen": 8, "confirm": 0}
    assert found["base"]["name"] == "origin/main"
    assert found["header"]["suite"] == "gate"


# --- JUnit ---

# What the schema of Jenkins's xUnit plugin (junit-10.xsd) allows: attributes and children.
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "time", "skipped", "timestamp"}, {"testcase"}),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out"}),
    **{kind: ({"type", "message"}, set()) for kind in ("skipped", "error", "failure")},
    "system-out": (set(), set()),
}


def parsed(text: str) -> Xml.Element:
    return Xml.fromstring(text)  # noqa: S314 - our own text


def outcomes(decision: Decision, record: Record | None = None) -> dict[str, str]:
    """Name of each test -> "passed", or the element that says otherwise."""
    root = parsed(as_junit(decision, record or make_record()))
    told = {}
    for test in root.iter("testcase"):
        kinds = [child.tag for child in test if child.tag != "system-out"]
        told[test.attrib["name"]] = kinds[0] if kinds else "passed"
    return told


def test_junit_tells_each_verdict_in_its_own_way() -> None:
    found = {name: outcomes(decision) for name, decision in DECISIONS.items()}
    work = {"work of a step": "passed"}
    assert found["pass"] == {"vit train": "passed", "cnn train": "passed"} | work
    assert found["regression"] == {"vit train": "passed", "cnn train": "failure", "work of a step": "failure"}
    assert found["inconclusive"] == {"vit train": "passed", "cnn train": "failure"} | work
    assert found["warned"] == {"vit train": "passed", "cnn train": "skipped"} | work
    assert found["crashed"] == {"vit train": "passed", "cnn train": "error"} | work
    assert found["nothing"] == {"comparison": "failure"} | work


def test_junit_skips_what_was_not_compared_and_never_passes_it() -> None:
    gone = CellVerdict("new train", "missing", reason="base doesn't have it")
    assert outcomes(make_decision(passing(), gone))["new train"] == "failure"
    allowed = make_decision(gone, passing(), verdict="pass")
    assert outcomes(allowed, make_record(images=None)) == {
        "new train": "skipped",
        "vit train": "passed",
        "work of a step": "skipped",
    }


def test_junit_shows_accepted_work_without_failing() -> None:
    root = parsed(as_junit(make_decision(passing(), work=(MORE,)), make_record()))
    test = next(test for test in root.iter("testcase") if test.attrib["name"] == "work of a step")
    assert [child.tag for child in test] == ["system-out"]
    assert "aten.clone" in (test.findtext("system-out") or "")


@pytest.mark.parametrize("name", DECISIONS)
def test_junit_keeps_to_the_schema_and_counts_right(name: str) -> None:
    root = parsed(as_junit(DECISIONS[name], make_record()))
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
    suite = root[0]
    for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[key]) == len(list(suite.iter(tag)))
    assert {test.attrib["classname"] for test in suite} == {"throughput"}
    assert suite.attrib["timestamp"] == "2026-11-22T10:00:00"
    times = [float(test.attrib["time"]) for test in suite]
    assert float(suite.attrib["time"]) == pytest.approx(sum(times), abs=0.002)


def test_junit_says_what_happened_in_the_text_too() -> None:
    root = parsed(as_junit(DECISIONS["crashed"], make_record()))
    assert root.findtext(".//error") == "crashed in head, cell cnn train, launch 3: killed by signal 9"
    root = parsed(as_junit(REGRESSION, make_record()))
    text = root.findtext(".//testcase[@name='cnn train']/failure") or ""
    assert text.splitlines() == [
        "11.3% slower (+8.8% to +13.9%)",
        "would have caught 7%",
        "flagged at 12.6%, confirmed",
        "cnn train: operators 412 -> 416, more work: 4 more aten.clone (float32) a step",
    ]
    gone = CellVerdict("new train", "missing", reason="base doesn't have it")
    root = parsed(as_junit(make_decision(passing(), gone), make_record()))
    assert root.findtext(".//failure") == "missing: base doesn't have it"


def test_junit_survives_names_that_xml_cannot_hold() -> None:
    verdict, failure = crashing(NASTY, f"{NASTY}\x00\ud800")
    found = outcomes(make_decision(verdict, failures=(failure,)))
    assert list(found.values()) == ["error", "passed"]


# --- pytest-benchmark and github-action-benchmark ---


def test_pytest_benchmark_compares_our_file(tmp_path: Path) -> None:
    file = tmp_path / "gate.json"
    file.write_text(json.dumps(as_pytest_benchmark(REGRESSION, make_record({"cnn train": 1.11})), allow_nan=False))
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", str(tmp_path / "none"), "compare", str(file)]
    # in an empty folder: it looks for a conftest.py
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert "Failed to load" not in found.stderr
    for cell in CELLS:
        assert f"benchmark '{cell}': 2 tests" in found.stdout
        assert f"{cell}[base]" in found.stdout
    slow = re.search(r"^cnn train\[head\].*?\((1\.\d+)\)", found.stdout, re.MULTILINE)
    assert slow, found.stdout


def test_pytest_benchmarks_own_arithmetic_gives_the_same_figures() -> None:
    stats = pytest.importorskip("pytest_benchmark.stats")
    for launches in (1, 3, 8):
        for found in as_pytest_benchmark(REGRESSION, make_record(launches=launches))["benchmarks"]:
            theirs = stats.Stats()
            for seconds in found["stats"]["data"]:
                theirs.update(seconds)
            for key, value in theirs.as_dict().items():
                assert found["stats"][key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_pytest_benchmark_has_every_slice_and_names_the_revision() -> None:
    record = make_record()
    found = strict(as_pytest_benchmark(REGRESSION, record))
    assert sum(entry["stats"]["rounds"] for entry in found["benchmarks"]) == len(record.slices) == 2 * 8 * 8
    assert len({entry["fullname"] for entry in found["benchmarks"]}) == 4
    assert found["commit_info"]["id"].startswith("89abcdef")
    assert found["commit_info"]["dirty"]
    assert found["machine_info"]["cpu"]["brand_raw"] == "AMD EPYC 7R13"
    assert strict(as_pytest_benchmark(DECISIONS["nothing"], Record({})))["benchmarks"] == []


def test_github_benchmark_gets_heads_images_a_second() -> None:
    record = make_record()
    entries = strict(as_github_benchmark(REGRESSION, record))
    assert [entry["name"] for entry in entries] == list(CELLS)
    for entry, seconds in zip(entries, CELLS.values(), strict=True):
        assert entry["unit"] == "images/s"
        assert entry["value"] == pytest.approx(128 / seconds, rel=0.05)
        # as the action parses it: a sign, then nothing but a number
        assert 0 < float(re.fullmatch(r"± (\d.+)", entry["range"])[1]) < 0.1 * entry["value"]  # type: ignore[index]
    assert entries[1]["extra"] == "8 launches\nregression: 11.3% slower (+8.8% to +13.9%)"


def test_github_benchmark_counts_steps_where_the_batch_is_not_known() -> None:
    record = make_record(images=None, launches=1)
    (entry, _) = as_github_benchmark(REGRESSION, record)
    pieces = [piece for piece in record.slices if piece.cell == "vit train" and piece.arm == "head"]
    assert entry["unit"] == "steps/s"
    assert entry["value"] == pytest.approx(sum(p.steps for p in pieces) / sum(p.seconds for p in pieces), rel=1e-5)
    assert "range" not in entry
    assert as_github_benchmark(REGRESSION, Record({})) == []


def test_the_value_is_the_median_over_launches() -> None:
    record = make_record(images=None, launches=3)
    (entry, _) = as_github_benchmark(REGRESSION, record)
    rates = [
        as_github_benchmark(REGRESSION, Record({}, slices=[p for p in record.slices if p.launch == number]))[0]["value"]
        for number in range(3)
    ]
    assert entry["value"] == pytest.approx(statistics.median(rates), rel=1e-5)


# --- the how-to ---


def options() -> set[str]:
    return {name for option in gate.params for name in option.opts if name.startswith("--")}


def test_the_how_to_has_every_option_and_no_other() -> None:
    text = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    text = re.sub(r"\n## Against a stored run.*?(?=\n## )", "", text, flags=re.DOTALL)  # of another command
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) == options()


def test_the_how_to_gives_each_verdict_its_exit_status() -> None:
    text = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    for verdict, status in EXIT_STATUS.items():
        assert re.search(rf"^\| {verdict} \| .* \| {status} \|$", text, re.MULTILINE)


def test_the_how_tos_suite_means_two_configurations(tmp_path: Path) -> None:
    text = (ROOT / "docs/gate.md").read_text(encoding="utf-8")
    (suite,) = re.findall(r"```yaml\n(# benchmarks/.*?)```", text, re.DOTALL)
    file = tmp_path / "throughput.yaml"
    file.write_text(suite)
    found = configurations(read_suite(file))
    assert [content["models"][0]["model"] for _, content in found] == ["my_package.nets:make_net", "cnn"]


# --- CI files ---

CI_FILES = [".github/workflows/throughput.yml", "docs/ci/github-actions.yml", "docs/ci/gitlab-ci.yml"]


def parsed_yaml(name: str) -> dict[Any, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def steps_of(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for job, content in parsed_yaml(name)["jobs"].items():
        for step in content["steps"]:
            yield job, step


def scripts_of(name: str) -> list[str]:
    if "gitlab" in name:
        return ["\n".join(parsed_yaml(name)["throughput"]["script"])]
    return [step["run"] for _, step in steps_of(name) if "run" in step]


@pytest.mark.parametrize("name", CI_FILES)
def test_ci_scripts_are_valid_shell_and_fetch_no_programs_to_run(name: str) -> None:
    scripts = scripts_of(name)
    assert scripts
    for script in scripts:
        found = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        assert not re.search(r"curl|wget", script)


@pytest.mark.parametrize("name", CI_FILES)
def test_ci_compares_two_sources_in_one_job_and_keeps_the_journal(name: str) -> None:
    (script,) = [script for script in scripts_of(name) if "--base" in script]
    for option in ("--base", "--head HEAD", "--work", "--journal", "--json", "--markdown"):
        assert f"{option} " in script
    assert ("--junit" in script) == ("gitlab" in name)
    (command,) = re.findall(r"gate (--base(?:.|\\\n)*)", script)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", command)) <= options()


@pytest.mark.parametrize("name", CI_FILES[:2])
def test_workflows_run_nothing_that_a_pull_request_could_have_written_into_an_expression(name: str) -> None:
    for _, step in steps_of(name):
        assert "${{" not in step.get("run", "")
        assert "${{" not in step.get("with", {}).get("script", "")


@pytest.mark.parametrize("name", CI_FILES[:2])
def test_workflows_have_the_whole_history_and_no_more_rights_than_they_need(name: str) -> None:
    content = parsed_yaml(name)
    assert content["permissions"] == {"contents": "read"}
    # YAML 1.1 reads the key `on` as true
    assert set(content[True]) == {"pull_request"}
    for job, settings in content["jobs"].items():
        assert settings.get("permissions") == ({"pull-requests": "write"} if job == "comment" else None)
        assert settings["timeout-minutes"] <= 30
    (checkout,) = [step for _, step in steps_of(name) if "checkout" in step.get("uses", "")]
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}


def test_no_job_with_a_right_to_write_checks_out_or_runs_anything() -> None:
    steps = [step for job, step in steps_of(CI_FILES[0]) if job == "comment"]
    assert [step["uses"].split("@")[0] for step in steps] == ["actions/download-artifact", "actions/github-script"]
    assert not any("run" in step for step in steps)


def test_workflows_use_the_same_versions_of_actions_as_the_tests_workflow() -> None:
    known = dict(step["uses"].split("@") for _, step in steps_of(".github/workflows/ci.yml") if "uses" in step)
    for name in CI_FILES[:2]:
        for _, step in steps_of(name):
            action, _, version = step.get("uses", "").partition("@")
            assert not action or re.fullmatch(r"v\d+", version)
            assert version == known.get(action, version)


def test_the_comment_is_found_by_the_marker_that_the_gate_writes() -> None:
    text = (ROOT / CI_FILES[0]).read_text(encoding="utf-8")
    assert f"const marker = '{MARKER}'" in text
    assert f"'{MARKER}' \\" in text  # and the answer that says there is none


def test_the_summary_says_so_where_the_gate_gave_no_answer(tmp_path: Path) -> None:
    for name in CI_FILES[:2]:
        (script,) = [step["run"] for _, step in steps_of(name) if step.get("name") == "Summary"]
        summary, temporary = tmp_path / "summary.md", tmp_path / name.replace("/", "-")
        environment = {"PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(temporary), "GITHUB_STEP_SUMMARY": str(summary)}
        subprocess.run(["bash", "-e", "-c", script], env=environment, check=True)
        assert summary.read_text().startswith(f"{MARKER}\n\n**The throughput gate gave no answer.**")
        assert (temporary / "gate" / "gate.md").read_text().startswith(MARKER)
        summary.unlink()
