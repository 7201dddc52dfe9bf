"""The pick under limits: by validation, kept by upper ends, and the smaller of what is as good."""

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_up import make_run

import bench
from bench.analysis.picks import LIMITS, Picks, pick, picks, round_numbers
from bench.analysis.summary import Tables, read_tables

# by the start of the trial's id: what is measured of it; four nets, the larger the better but for the ViTs' last
MEASURED: dict[str, dict[str, Any]] = {
    "vit-p14-d2": {"num_params": 8_000, "val_accuracy": 0.950, "test_accuracy": 0.948, "latency_p50_seconds": 0.0004},
    "vit-p4-d2": {"num_params": 90_000, "val_accuracy": 0.970, "test_accuracy": 0.972, "latency_p50_seconds": 0.0008},
    "cnn-d2": {"num_params": 15_000, "val_accuracy": 0.980, "test_accuracy": 0.979, "latency_p50_seconds": 0.0030},
    "cnn-d4": {"num_params": 60_000, "val_accuracy": 0.990, "test_accuracy": 0.989, "latency_p50_seconds": 0.0060},
}
CONFIGS = (("vit", 14, 2), ("vit", 4, 2), ("cnn", None, 2), ("cnn", None, 4))


def run_of(folder: Path, more: dict[str, dict[str, Any]] | None = None, **options: Any) -> Tables:
    overrides = {start: fields | (more or {}).get(start, {}) for start, fields in MEASURED.items()}
    make_run(folder, configs=CONFIGS, dtypes=("fp32",), overrides=overrides, **options)
    return read_tables(folder)


def code(found: Picks, **most: float) -> str:
    chosen = pick(found.models, most, found.margin)
    return chosen["code"] if chosen else ""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Picks:
    (only,) = picks(run_of(tmp_path_factory.mktemp("picks") / "run"))
    return only


def test_limits_combine(found: Picks) -> None:
    assert code(found) == "CNN d4 fp32"
    assert code(found, parameters=20_000) == "CNN d2 fp32"
    assert code(found, parameters=20_000, ms=1.0) == "ViT p14 d2 fp32"
    assert code(found, ms=1.0) == "ViT p4 d2 fp32"
    assert code(found, ms=0.1) == ""


@pytest.mark.parametrize("key", [limit.key for limit in LIMITS])
def test_a_row_of_just_the_limit_keeps_it(found: Picks, key: str) -> None:
    best = next(each for each in found.models if each["code"] == "CNN d4 fp32")
    others = max(each[key] for each in found.models if each is not best and each[key] <= best[key])
    assert code(found, **{key: best[key]}) == "CNN d4 fp32"
    assert code(found, **{key: best[key] * (1 - 1e-6)}) != "CNN d4 fp32"
    assert code(found, **{key: others}) != ""
    assert code(found, **{key: best[key] * (1 - 1e-12)}) == "CNN d4 fp32"  # a sum of tenths may be that much off
    assert code(found, **{"parameters": best["parameters"], key: best[key]}) == "CNN d4 fp32"


def test_a_limit_is_kept_by_the_upper_end(tmp_path: Path) -> None:
    scattered = {f"cnn-d4-fp32-cpu-s{seed}": {"latency_p50_seconds": 0.006 + 0.001 * seed} for seed in range(3)}
    make_run(tmp_path / "run", configs=CONFIGS, dtypes=("fp32",), overrides=MEASURED | scattered)
    tables = read_tables(tmp_path / "run")
    (only,) = picks(tables)
    slow = next(each for each in only.models if each["code"] == "CNN d4 fp32")
    (row,) = (row for row in tables.summary.to_dict("records") if row["label"] == "CNN d4 fp32")
    assert row["latency_p50_seconds"] < 0.0071 < row["latency_p50_seconds_high"]
    assert slow["ms"] == pytest.approx(1e3 * row["latency_p50_seconds_high"], rel=1e-5)
    assert code(only, ms=7.1) == "CNN d2 fp32"


def test_of_those_as_good_the_smallest_is_taken(tmp_path: Path) -> None:
    (only,) = picks(run_of(tmp_path / "run", {"cnn-d2": {"val_accuracy": 0.9895}}))
    assert code(only) == "CNN d2 fp32"


@pytest.mark.parametrize(
    ("right", "taken"),
    [
        (2498, "small"),  # 0.4996, where 0.5006 - 0.001 comes to a hair more
        (2497, "large"),
        (2503, "small"),
    ],
    ids=["at the margin", "an image beyond it", "equal"],
)
def test_as_good_is_at_most_the_margin_worse(right: int, taken: str) -> None:
    models = [
        {"code": "large", "validation": 2503 / 5000, "parameters": 90},
        {"code": "small", "validation": right / 5000, "parameters": 10},
        {"code": "no smaller, and worse", "validation": (right - 1) / 5000, "parameters": 10},
        {"code": "of unknown size", "validation": 2503 / 5000, "parameters": None},
    ]
    for order in (models, models[::-1]):
        chosen = pick(order, {}, 0.001)
        assert chosen
        assert chosen["code"] == taken


def test_a_row_for_each_limit_tells_where_it_changes_the_pick(found: Picks) -> None:
    rows = {row.limit: (row.code, row.accuracy) for row in found.rows}
    assert rows["at most 50,000 parameters"] == ("CNN d2 fp32", "97.90%")
    assert rows["at most 5 ms for one image (median)"] == ("CNN d2 fp32", "97.90%")


def test_what_was_not_measured_keeps_no_limit(tmp_path: Path) -> None:
    unknown: dict[str, dict[str, Any]] = {key: {"latency_p50_seconds": None} for key in MEASURED}
    unknown["vit-p14-d2"] |= {"num_params": 0}  # as a net without any has
    (only,) = picks(run_of(tmp_path / "run", unknown))
    assert "ms" not in [limit.key for limit in only.limits]
    assert code(only, ms=1000.0) == ""
    assert {each["code"]: each["parameters"] for each in only.models}["ViT p14 d2 fp32"] is None


def test_of_one_model_or_none_there_is_nothing_to_pick(tmp_path: Path) -> None:
    make_run(tmp_path / "one", configs=CONFIGS[:1], dtypes=("fp32",))
    assert picks(read_tables(tmp_path / "one")) == []
    make_run(tmp_path / "none", configs=())
    assert picks(read_tables(tmp_path / "none")) == []


def test_what_diverged_with_some_seed_is_no_advice(tmp_path: Path) -> None:
    bad = {"cnn-d4-fp32-cpu-s1": {"status": "diverged", "error": "NaN"}}
    make_run(tmp_path / "run", configs=CONFIGS, dtypes=("fp32",), overrides=bad | MEASURED)
    (only,) = picks(read_tables(tmp_path / "run"))
    assert "CNN d4 fp32" not in [each["code"] for each in only.models]


def test_each_device_has_its_own(tmp_path: Path) -> None:
    cpu, gpu = picks(run_of(tmp_path / "run", devices={"cpu": "EPYC", "cuda": "H100"}))
    assert (cpu.place, gpu.place) == ("EPYC", "H100")


@pytest.mark.parametrize(
    ("low", "high", "numbers"), [(12, 90, [20, 50, 100]), (0.4, 6, [0.5, 1, 2, 5, 10]), (10, 10, [10])]
)
def test_round_numbers_reach_from_one_end_to_the_other(low: float, high: float, numbers: list[float]) -> None:
    assert round_numbers(low, high) == numbers


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script needs a JavaScript engine: Node.js")
def test_the_pages_script_picks_what_the_report_picks(tmp_path: Path) -> None:
    """On models with ties, gaps and limits that are just kept."""
    dice = random.Random(0)
    cases: list[tuple[list[dict[str, Any]], dict[str, float], float]] = []
    for _ in range(300):
        models: list[dict[str, Any]] = [
            {"code": str(index), "validation": dice.randint(9000, 9010) / 10_000}
            | {limit.key: dice.choice([None, dice.randint(1, 6) / 10]) for limit in LIMITS}
            for index in range(dice.randint(1, 6))
        ]
        most = {limit.key: dice.randint(1, 6) * 0.1 for limit in LIMITS if dice.random() < 0.4}
        cases.append((models, most, dice.choice([0.0, 0.0001, 0.001])))
    script = Path(bench.__file__).parent / "report" / "templates" / "picks.js"
    rest = (
        "console.log(JSON.stringify(cases.map(([models, most, margin]) => pick(models, Object.entries(most), margin))))"
    )
    program = tmp_path / "picks.js"
    empty = "const document = { getElementById: () => null };"
    program.write_text(f"{empty}\n{script.read_text(encoding='utf-8')}\nconst cases = {json.dumps(cases)};\n{rest}")
    found = json.loads(subprocess.run(["node", program], capture_output=True, check=True).stdout)
    for case, said in zip(cases, found, strict=True):
        ours = pick(*case)
        assert (said["alike"][0]["code"] if said["alike"] else None) == (ours["code"] if ours else None), case
    assert {len(said["alike"]) for said in found} >= {0, 1, 2, 3}
