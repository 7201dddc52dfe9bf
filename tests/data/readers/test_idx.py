"""IDX files, good and bad."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bench.data.readers.idx import read_idx, write_idx
from bench.errors import DataError


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(array=arrays(np.uint8, array_shapes(max_dims=4, max_side=6)), gzipped=st.booleans())
def test_what_is_written_is_read_back(scratch: Path, array: np.ndarray, gzipped: bool) -> None:
    path = scratch / "file"
    write_idx(path, array)
    if gzipped:
        path = scratch / "file.gz"
        path.write_bytes(gzip.compress((scratch / "file").read_bytes()))
    assert np.array_equal(read_idx(path), array)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    start=st.sampled_from([b"", b"\0\0", b"\0\0\x08", b"\0\0\x08\1", b"\0\0\x08\3\0\0\0\1", b"\x1f\x8b\x08\0"]),
    rest=st.binary(max_size=40),
    name=st.sampled_from(["file", "file.gz"]),
)
def test_random_bytes_are_an_array_of_their_own_length_or_a_data_error(
    scratch: Path, start: bytes, rest: bytes, name: str
) -> None:
    (scratch / name).write_bytes(start + rest)
    try:
        size = read_idx(scratch / name).size
    except DataError:
        return
    assert 0 < size < len(start + rest)


@pytest.mark.parametrize("sizes", [(2**32 - 1,), (2**31, 2**31, 2**31), (2**32 - 1, 0, 1), (3, 2)])
def test_a_header_that_lies_about_its_size_is_refused_without_making_room(
    scratch: Path, sizes: tuple[int, ...]
) -> None:
    header = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    (scratch / "liar").write_bytes(header + b"12345")
    with pytest.raises(DataError, match="but 5 follow"):
        read_idx(scratch / "liar")


def test_an_empty_array_is_refused(scratch: Path) -> None:
    (scratch / "empty").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 0, 255, 255, 255, 255]))
    with pytest.raises(DataError, match=r"holds 0 x 4,294,967,295 bytes"):
        read_idx(scratch / "empty")


def test_other_formats_and_missing_files_are_named(scratch: Path) -> None:
    (scratch / "text").write_bytes(b"P5 28 28 255")
    with pytest.raises(DataError, match=r"text isn't an IDX file of bytes \(it begins with '50 35 20 32'\)"):
        read_idx(scratch / "text")
    with pytest.raises(DataError, match="nowhere: can't be read"):
        read_idx(scratch / "nowhere")
