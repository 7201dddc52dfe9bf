"""Nodes of a cluster: who ran what on which hardware, and whether that shows."""

from pathlib import Path
from typing import Any

import pytest
from made_up import Node, make_run

from bench.analysis.cross_device import cross_device_sheet, node_sheet, node_warnings
from bench.analysis.summary import Tables, read_tables

CPU = "AMD EPYC 7R13"


def read(folder: Path, **how: Any) -> Tables:
    usual: dict[str, Any] = {"configs": [("vit", 7, 2), ("cnn", None, 2)], "dtypes": ["fp32"], "epochs": 1}
    return read_tables(make_run(folder, **(usual | how)))


def test_two_devices_stand_in_the_head_and_of_several_numbers_of_threads_the_fastest_counts(tmp_path: Path) -> None:
    one_thread: dict[str, Any] = {"dtype": "fp32", "num_threads": 1}
    speeds = {
        "cnn-d2-fp32-cpu": {"images_per_second": 0.25},
        "cnn-d2-amp-bf16-cpu": one_thread | {"images_per_second": 0.5},
        "cnn-d2-fp32-cuda": {"images_per_second": 4.0},
        "cnn-d2-amp-bf16-cuda": one_thread | {"images_per_second": 3.0},
        "vit-p7-d2-fp32": {"images_per_second": None},
        "vit-p7-d2-amp-bf16-cpu": one_thread | {"images_per_second": 0.2},
        "vit-p7-d2-amp-bf16-cuda": one_thread | {"images_per_second": 2.0},
    }
    how: dict[str, Any] = {"dtypes": ["fp32", "amp-bf16"], "seeds": [0], "devices": {"cpu": "EPYC", "cuda": "H100"}}
    sheet = cross_device_sheet(read(tmp_path / "run", overrides=speeds, **how))
    assert sheet
    assert sheet.head == ["configuration", "images/s, H100 and EPYC", "ratio", "test accuracy of both", "difference"]
    assert [[cell.text for cell in row[:3]] for row in sheet.rows] == [
        ["ViT p7 d2 fp32 1 thread", "2.00 and 0.200", "10.0"],
        ["CNN d2 fp32 1 thread", "4.00 and 0.500", "8.00"],
    ]
    assert sheet.said[0].startswith("H100 trains 8.00 to 10.0 times as fast as EPYC in 2 configurations that both")


def test_a_run_on_one_machine_has_no_nodes(tmp_path: Path) -> None:
    tables = read(tmp_path / "run", seeds=[0])
    assert node_sheet(tables) is None
    assert node_warnings(tables, CPU) == []


def test_nodes_are_listed_with_their_hardware_load_and_failures(tmp_path: Path) -> None:
    lost = {"cnn-d2-fp32-cpu-s2": {"status": "failed", "error": "the node was lost"}}
    tables = read(tmp_path / "run", nodes=[Node("a"), Node("b", load=1.1), Node("a")], overrides=lost)
    sheet = node_sheet(tables)
    assert sheet
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        ["a", "4", f"{CPU}, 8 cores", "0.90"],
        ["b", "2", f"{CPU}, 8 cores", "1.10"],
    ]
    assert [row[1].interval for row in sheet.rows] == ["1 not ok", ""]
    assert node_warnings(tables, CPU) == []


def test_a_node_that_is_slower_than_its_name_says_is_a_warning(tmp_path: Path) -> None:
    slow = {f"{name}-fp32-cpu-s{s}": {"speed": 0.6} for name in ("vit-p7-d2", "cnn-d2") for s in (1, 3)}
    tables = read(tmp_path / "run", seeds=range(4), nodes=[Node("a"), Node("a"), Node("b"), Node("b")], overrides=slow)
    (warning,) = node_warnings(tables, CPU)
    assert warning.startswith("a trains 1.6")
    assert "times as fast as b (95% interval" in warning
    assert "4 and 4 trials of the same configurations" in warning


@pytest.mark.parametrize("spread", [0.3, 0.1])  # twice what the nodes differ by, and half of it
def test_a_node_that_is_slower_by_less_than_trials_swing_is_none(spread: float, tmp_path: Path) -> None:
    slow: dict[str, Any] = {
        f"{name}-fp32-cpu-s{s}": {"speed": 0.85} for name in ("vit-p7-d2", "cnn-d2") for s in (1, 3)
    }
    change = {"": {"throughput_spread": spread}, **slow}
    nodes = [Node("a"), Node("a"), Node("b"), Node("b")]
    tables = read(tmp_path / "run", seeds=range(4), nodes=nodes, overrides=change)
    assert len(node_warnings(tables, CPU)) == (spread < 0.15)


def test_unlike_machines_under_one_name_are_a_doubt(tmp_path: Path) -> None:
    tables = read(tmp_path / "run", nodes=[Node("a"), Node("b", cores=64), Node("c")])
    (warning,) = node_warnings(tables, CPU)
    assert f"aren't alike (a and c: {CPU}, 8 cores; b: {CPU}, 64 cores)" in warning


def test_trials_that_began_on_a_busy_machine_are_counted(tmp_path: Path) -> None:
    busy = Node("a", load=2.0)
    (warning,) = node_warnings(read(tmp_path / "some", nodes=[Node("a"), Node("a"), busy]), CPU)
    assert warning.startswith("2 of 6 timed trials began on a busy machine (a): up to 2.0 processes a core")
    older = {"": {"timed": None}}  # from before trials said so; and busy is usual there, and not the sweep's own doing
    (warning,) = node_warnings(read(tmp_path / "all", nodes=[busy], overrides=older), CPU)
    assert warning.startswith("6 of 6 timed trials")
    beside = {"": {"timed": False}}
    assert node_warnings(read(tmp_path / "beside", nodes=[busy], overrides=beside), CPU) == []


def test_a_trial_that_never_saw_its_device_has_the_name_that_it_has_on_its_node(tmp_path: Path) -> None:
    change = {f"cnn-d2-fp32-cpu-s{seed}": {"device_name": name} for seed, name in enumerate(("Xeon", CPU, None))}
    change["cnn-d2-fp32-cpu-s2"] |= {"status": "failed"}
    change |= {"vit": {"device_name": "Xeon"}}
    tables = read(tmp_path / "run", nodes=[Node("x"), Node("x"), Node("x"), Node("e")], overrides=change)
    lost = tables.trials.set_index("trial_id").loc["cnn-d2-fp32-cpu-s2"]
    assert (lost["node"], lost["device_name"]) == ("x", "Xeon")
