"""Inputs with a shape: valid suites, tables, archives and run folders with something in them changed.

What coverage-guided bytes seldom reach: the second half of a plan, a table whose cells agree with its header.
"""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fuzz_targets import NEXT_FILE
from hypothesis import strategies as st

from bench.config.suite_keys import Axes, SuiteFile
from bench.data.spec import UserDataOptions
from bench.result import (
    BLOCK_COLUMNS,
    COLUMNS,
    EVALUATION_COLUMNS,
    INFERENCE_COLUMNS,
    SLICE_COLUMNS,
    SPLIT_COLUMNS,
)
from bench.store.tables import READABLE
from bench.trial import Training
from models.cnn import CNNConfig
from models.vit import ViTConfig

SUITES = Path(__file__).parents[2] / "bench" / "suites"
KEYS = sorted(
    {
        *(
            key
            for model in (SuiteFile, Axes, Training, UserDataOptions, ViTConfig, CNNConfig)
            for key in model.model_fields
        ),
        *("model", "match", "flip", "rotation", "title", "source", "points", "epoch", "", "1", "\x1b[2J", "é", "ključ"),
    }
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31, 2**63 - 1, -(2**63), 1e308, 1e-320, -0.0, 0.5, 1.0]),
    st.sampled_from(["", "vit", "cnn", "digits", "mnist", "data.csv", "./data.csv", "params", "auto", "cpu"]),
    st.sampled_from(
        ["cuda:0", "cuda:99", "cpu:0", "fp32", "amp-bf16", "sgd", "vit-99", "\x1b]0;x\x07", "a" * 300, "~x"]
    ),
    st.text(max_size=8),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def _written(content: Any) -> bytes:
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode("utf-8", "replace")


def _places(node: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place, *(found for key, value in inside for found in _places(value, (*place, key)))]


@cache
def _our_suites() -> list[Any]:
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(SUITES.glob("*.yaml"))]


@st.composite
def suites(draw: st.DrawFn) -> bytes:
    """One of ours, or a small one over own data, with one to four places changed."""
    small = {
        "dataset": {"path": "data.csv"},
        "models": [{"model": "vit", "patch_size": 2}, {"model": "cnn", "depth": 1}],
    }
    content = copy.deepcopy(draw(st.sampled_from([small, *_our_suites()])))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(_places(content)))
        node = content
        for key in place[:-1]:
            node = node[key]
        target = node[place[-1]] if place else content
        if isinstance(target, dict) and draw(st.booleans()):
            target[draw(st.sampled_from(KEYS))] = draw(values)
        elif place:
            node[place[-1]] = draw(values)
    return _written(content)


@st.composite
def options(draw: st.DrawFn) -> bytes:
    """Some `--set` with known keys and odd values."""
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        parts = draw(st.sampled_from(["{}", "models.vit.{}", "models.0.{}", "models.cnn.{}", "dataset.{}", "{}.{}"]))
        key = parts.format(*[draw(st.sampled_from(KEYS)) for _ in range(2)])
        value = yaml.safe_dump(draw(values), default_flow_style=True, allow_unicode=True, width=10**6)
        lines.append(f"{key}={value.removesuffix('...' + chr(10)).strip()}".replace("\n", " "))
    return "\n".join(lines).encode("utf-8", "replace")


cells = st.one_of(
    st.integers(0, 255).map(str),
    st.sampled_from(
        ["", "256", "-1", "1e2", "NaN", "inf", '"', '"a""b"', "x", "9" * 400, " 7 ", "0x1", "=1+1", "\0", "é"]
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV of images of 2 x 2 or 2 x 2 x 3 pixels, a few cells of which are odd."""
    width = draw(st.sampled_from([4, 5, 12, 13, 6]))
    header = draw(st.sampled_from(["label", "id,label", "", "\ufefflabel"]))
    names = [*filter(None, header.split(",")), *(f"p{number}" for number in range(width))]
    rows = [[str((row + 2) * column % 3) for column in range(len(names))] for row in range(draw(st.integers(0, 9)))]
    for row, column in draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, len(names) - 1)), max_size=4)):
        if row < len(rows):
            rows[row][column:] = [draw(cells), *rows[row][column + 1 :][: draw(st.sampled_from([99, 99, 99, 0]))]]
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    separator = draw(st.sampled_from([",", ",", ",", ";", "\t"]))
    lines = [separator.join(row) for row in ([names, *rows] if header else rows)]
    return (end.join(lines) + draw(st.sampled_from(["", end]))).encode("utf-8", "replace")


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """An .npz of small arrays of every kind, whose headers may lie."""
    packed = io.BytesIO()
    kinds = ["|u1", "<f4", "<f8", "<f2", "<i8", ">i2", "|b1", "<U3", "|S2", "<c8", "<M8[s]", "|V4", "<U0", "|V0", "|O"]
    names = ["images", "labels", "x_train", "y_train", "x_test", "train_images", "train_labels", "../x", "a\x1b[2Jb"]
    with zipfile.ZipFile(packed, "w", draw(st.sampled_from([0, 8, 12, 14]))) as archive:
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)):
            shape = draw(
                st.sampled_from([(6, 2, 2), (6,), (6, 1), (6, 2, 2, 3), (0,), (), (6, -1), (2**40,), (6, 1, 9)])
            )
            kind = draw(st.sampled_from(kinds))
            head = {"descr": kind, "fortran_order": draw(st.booleans()), "shape": shape}
            start = io.BytesIO()
            np.lib.format.write_array_header_1_0(start, head)
            size = abs(int(np.prod(shape, dtype=object))) * np.dtype(kind).itemsize
            body = draw(st.binary(min_size=8, max_size=64))
            content = (body * (min(size, 4096) // len(body) + 1))[: min(size, 4096)]
            archive.writestr(f"{name}{draw(st.sampled_from(['.npy', '']))}", start.getvalue() + content)
    return packed.getvalue()


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    """A header, and as many bytes as it says, or about as many."""
    sizes = draw(st.lists(st.sampled_from([0, 1, 2, 3, 7, 100, 2**16, 2**31, 2**32 - 1]), min_size=1, max_size=4))
    count = min(int(np.prod(sizes, dtype=object)), 5_000) + draw(st.sampled_from([0, 0, 0, 1, -1]))
    start = bytes([0, 0, draw(st.sampled_from([8, 8, 8, 9])), draw(st.sampled_from([len(sizes), 0, 5, 255]))])
    return start + struct.pack(f">{len(sizes)}I", *sizes) + bytes(max(0, count))


@st.composite
def folders(draw: st.DrawFn) -> bytes:
    return NEXT_FILE.join(draw(st.lists(tables(), min_size=1, max_size=3)))


def _trial_line(draw: st.DrawFn, odd: st.SearchStrategy[object]) -> dict[str, object]:
    parts = {"evaluations": EVALUATION_COLUMNS, "blocks": BLOCK_COLUMNS, "inference_blocks": INFERENCE_COLUMNS}
    line: dict[str, object] = {"kind": draw(st.sampled_from(["trial", "trial", "retried"]))}
    line |= {"trial_id": draw(st.sampled_from(["a", "b", "c"])), "attempt": draw(st.sampled_from([0, 1, 2]))}
    row: dict[str, object] = {"status": draw(st.sampled_from(["ok", "failed"]))}
    for key in draw(st.lists(st.sampled_from([*COLUMNS]), max_size=5)):
        row[key] = draw(odd)
    length = draw(st.integers(0, 2))
    line |= {key: {each: [draw(odd)] * length for each in columns[1:]} for key, columns in parts.items()}
    return line | {"row": row, "sums": None, "failure": None, "correct": draw(st.sampled_from([None, "eJz7DwABAQEA"]))}


def _launch_line(draw: st.DrawFn, odd: st.SearchStrategy[object]) -> dict[str, object]:
    line: dict[str, object] = {"kind": "launch", "launch": draw(st.sampled_from([0, 0, 1, 10**20]))}
    line |= {"device": "cpu", "device_name": draw(st.sampled_from(["x", "=1", "\ud800"])), "started_at": "2026"}
    line |= {"wall_seconds": draw(st.sampled_from([1.5, -1, 10**400])), "missing": {}}
    line |= {key: {"x": draw(st.sampled_from([None, 1, 0.5, "x"]))} for key in ("machine", "peaks")}
    for key, columns in (("slices", SLICE_COLUMNS), ("splits", SPLIT_COLUMNS)):
        length, numbers = draw(st.integers(0, 2)), draw(st.sampled_from([None, 0.5, -1, 10**400]))
        cells = {each: ["a" if each == "config_id" else numbers] * length for each in columns}
        if key == "slices":
            cells["work"] = [draw(st.sampled_from(["train", "loop", "steps", "infer", "=1"]))] * length
        line[key] = cells | {
            draw(st.sampled_from(columns)): [draw(odd)] * length for _ in range(draw(st.integers(0, 1)))
        }
    return line


@st.composite
def runs(draw: st.DrawFn) -> bytes:
    """A run's record, its journal with odd values, and tables that are another's."""
    record = {"schema_version": draw(st.sampled_from(READABLE)), "plan": ["a", "b"], "suite": "s"}
    record |= {"content": {}, "options": [], "split": {"test": 8}}
    for _ in range(draw(st.integers(0, 3))):
        record[draw(st.sampled_from([*record, "environment", "digest"]))] = draw(values)
    odd = st.one_of(
        values, st.sampled_from(["ok", "failed", "a", 1e308, 10**400, -1, "\ud800", "=1", "\n", [[]], None])
    )
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        line = draw(st.sampled_from([_trial_line, _trial_line, _launch_line]))(draw, odd)
        for key in draw(st.lists(st.sampled_from([*line]), max_size=1)):
            line[key] = draw(odd)
        lines.append(json.dumps(line, separators=(",", ":"))[:-1] + ',"digest":"?"}')
    journal = "\n".join(lines) + draw(st.sampled_from(["\n", "", "\ntorn,"]))
    tables = draw(st.lists(st.binary(max_size=40), max_size=4))
    return NEXT_FILE.join([json.dumps(record).encode(), journal.encode(), *tables])


SHAPES: dict[str, st.SearchStrategy[bytes]] = {
    "suite": suites(),
    "set": options(),
    "idx": idx_files(),
    "csv": tables(),
    "npz": archives(),
    "image": st.binary(max_size=200),
    "folder": folders(),
    "store": runs(),
    "verify": runs(),
}
