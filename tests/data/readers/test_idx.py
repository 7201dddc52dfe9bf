"""IDX files, good and bad."""

import gzip
import math
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


@st.composite
def nearly_idx(draw: st.DrawFn) -> bytes:
    """A header of small sides, and as many bytes as it says or about as many."""
    sides = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    length = max(0, math.prod(sides) + draw(st.sampled_from([0, 0, 0, -1, 1])))
    header = bytes([0, 0, 8, len(sides)]) + b"".join(side.to_bytes(4, "big") for side in sides)
    return header + draw(st.binary(min_size=length, max_size=length))


ODD = st.builds(
    bytes.__add__,
    st.sampled_from([b"", b"\0\0", b"\0\0\x08", b"\0\0\x08\1", b"\0\0\x08\3\0\0\0\1", b"\x1f\x8b\x08\0"]),
    st.binary(max_size=40),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(content=ODD | nearly_idx(), form=st.sampled_from(["plain", "gzipped", "called so"]))
def test_random_bytes_are_the_array_that_their_header_tells_or_a_data_error(
    scratch: Path, content: bytes, form: str
) -> None:
    path = scratch / ("file" if form == "plain" else "file.gz")
    path.write_bytes(gzip.compress(content, 1) if form == "gzipped" else content)
    ndim = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 and content[3] in (1, 2, 3, 4) else 0
    sides = [int.from_bytes(content[place : place + 4], "big") for place in range(4, 4 + 4 * ndim, 4)]
    numbers = content[4 + 4 * ndim :]
    if ndim and len(numbers) == math.prod(sides) > 0 and form != "called so":
        assert read_idx(path).tolist() == np.frombuffer(numbers, np.uint8).reshape(sides).tolist()
    else:
        with pytest.raises(DataError):
            read_idx(path)


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
