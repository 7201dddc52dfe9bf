"""Somebody's files that are no files, unpack to more than they say, or hold what isn't asked of them."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_targets import unfit
from made_up_data import write_csv, write_npz, write_png_folder
from PIL import Image

from bench.data import download, sources
from bench.data.catalog import spec_of
from bench.data.download import fetch
from bench.data.readers import base
from bench.data.readers import csv as csv_images
from bench.data.readers.base import open_regular, resolve_path
from bench.data.readers.csv import read_csv
from bench.data.readers.idx import read_idx
from bench.data.readers.npz import read_npz
from bench.data.spec import UserDataOptions
from bench.data.user_data import describe
from bench.errors import DataError, UserError

ROOT = Path(__file__).parents[3]
HEADER = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**26, 8, 8)  # of 4 GiB


def packed(path: Path, start: bytes, unit: bytes, count: int) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(count):
            file.write(unit)
    return path


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        describe(UserDataOptions(path=str(path), **options), path.parent)  # type: ignore[arg-type]
    assert unfit(str(caught.value)) is None
    return str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_or_a_device_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "a.csv"
    os.mkfifo(pipe)
    assert "is neither a file nor a folder" in refusal(pipe)
    folder = write_png_folder(tmp_path / "images", 20)
    os.mkfifo(folder / "0" / "pipe.png")
    assert "pipe.png: can't be read (it is no file)" in refusal(folder)
    with pytest.raises(DataError, match="it is no file"):
        open_regular(Path(os.devnull))


def test_names_that_no_file_can_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "circle.csv")
    assert "File name too long" in refusal(tmp_path / f"{'x' * 300}.csv")
    assert "a\\x00b.csv: can't be read" in refusal(tmp_path / "a\0b.csv")
    with pytest.raises(DataError, match="~nobody-of-this-name/a: nobody of that name has a home folder here"):
        resolve_path("~nobody-of-this-name/a")


def test_links_in_a_circle_and_out_of_the_folder_end_somewhere(tmp_path: Path) -> None:
    folder = write_png_folder(tmp_path / "images", 60)
    (folder / "0" / "up").symlink_to("..")
    described = describe(UserDataOptions(path=str(folder)), tmp_path)
    assert described.num_train + described.num_test > 0
    (folder / "1" / "out.png").symlink_to("/etc/passwd")
    assert "out.png: isn't an image of a known format, or is damaged" in refusal(folder)


def test_what_a_terminal_would_act_on_reaches_no_message(tmp_path: Path) -> None:
    odd = "\x1b]0;x\x07"
    folder = tmp_path / "data"
    (folder / f"a{odd}").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / f"a{odd}" / "x.png")
    assert r"'a\x1b]0;x\x07'" in refusal(folder)
    (tmp_path / "a.csv").write_text(f"label,a,b,c,d\n1,2,3,4,{odd}\n")
    assert r"found '\x1b]0;x\x07'" in refusal(tmp_path / "a.csv")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(f"../../{odd}.npy", b"")
    assert "can't be read as an .npz" in refusal(tmp_path / "a.npz")
    assert str(UserError(f"a\n{odd}\u202e\ud800")) == r"a \x1b]0;x\x07\u202e\ud800"
    assert len(str(UserError("x" * 10**7 + "the end"))) < 600


def test_a_gzipped_idx_file_is_unpacked_no_further_than_its_header_says(tmp_path: Path) -> None:
    small = bytes([0, 0, 8, 1]) + struct.pack(">I", 3)
    path = packed(tmp_path / "a.gz", small + b"123", bytes(1 << 20), 8)
    with pytest.raises(DataError, match="holds 3 bytes, but 4 or more follow"):
        read_idx(path)
    path = packed(tmp_path / "a.gz", HEADER, b"", 0)
    with pytest.raises(DataError, match="holds 67,108,864 x 8 x 8 bytes, but 0 follow"):
        read_idx(path)


def test_what_unpacks_to_more_than_memory_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "machine_memory", lambda: 4096)
    whole = write_npz(tmp_path / "a.npz")
    assert "a.npz: unpacks to" in refusal(whole)
    assert "a.csv: unpacks to" in refusal(write_csv(tmp_path / "a.csv", 100))
    header = bytes([0, 0, 8, 1]) + struct.pack(">I", 5_000)
    with pytest.raises(DataError, match="unpacks to 5,000 bytes or more, and the machine has 4,096"):
        read_idx(packed(tmp_path / "a.gz", header, bytes(1_000), 5))


def test_long_thin_images_that_would_become_huge_squares_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((10, 1, 300_000), np.uint8), labels=np.arange(10) % 2)
    assert "10 images as squares of 300,000 pixels take 900,000,000,000 bytes" in refusal(tmp_path / "a.npz")


UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from bench.data.readers.csv import read_csv
from bench.data.readers.idx import read_idx
from bench.data.readers.npz import read_npz
from bench.errors import DataError
import numpy, pandas
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for read, path in zip((read_idx, read_csv, read_npz), sys.argv[2:]):
    try:
        read(Path(path))
    except DataError as error:
        print("refused:", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to ask how much memory is in use")
def test_bombs_under_a_real_limit_of_memory_are_a_line_each(tmp_path: Path) -> None:
    size, chunk = 1 << 28, 1 << 22
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", size >> 10, 32, 32)
    idx = packed(tmp_path / "a.gz", header, bytes(chunk), size // chunk)
    csv = packed(tmp_path / "a.csv.gz", b"1,2,3,4,5\n1,2,3,4,", b"0" * chunk, size // chunk)
    npz, start = tmp_path / "a.npz", io.BytesIO()
    shape = (size >> 10, 32, 32)
    np.lib.format.write_array_header_1_0(start, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with (
        zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w") as file,
    ):
        file.write(start.getvalue())
        for _ in range(size // chunk):
            file.write(bytes(chunk))
    assert max(path.stat().st_size for path in (idx, csv, npz)) < 2 << 20
    command = [sys.executable, "-c", UNDER_A_LIMIT, str(size // 2), str(idx), str(csv), str(npz)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["refused"] * 3
    assert [name for name, line in zip(("a.gz", "a.csv.gz", "a.npz"), lines, strict=True) if name in line] == [
        *("a.gz", "a.csv.gz", "a.npz")
    ]


def test_lines_that_never_end_and_long_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_images, "LONGEST_LINE", 1_000)
    for text, said in [
        ("0" * 2_000, "a line has more than 1,000 characters"),
        ("1,2,3,4,5\n1,2,3,4," + "0" * 400_000, "a line has more than 1,000 characters"),
        (f"label,a,b,c,d\n{'x' * 300},1,2,3,4\n", "of 300 characters; at most 200 are read"),
    ]:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match=said):
            read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([1.0, np.inf]), "numbers that are too large, or none"),
        (np.array([2**64 - 1, 1], np.uint64), "numbers that are too large, or none"),
        (np.array([0xD800, 97], "<u4").view("<U1"), "holds what is no text"),
        (np.array([0x7FFFFFFF, 97], "<u4").view("<U1"), "holds what is no text"),
        (np.zeros(2, "V4"), "holds |V4; expected whole numbers or names"),
    ],
)
def test_labels_that_are_neither_numbers_nor_text_are_refused(labels: np.ndarray, said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=labels)
    with pytest.raises(DataError) as caught:
        read_npz(tmp_path / "a.npz")
    assert said in str(caught.value)


def test_an_npz_packed_in_another_way_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", b"")
    with pytest.raises(DataError, match="is packed in a way"):
        read_npz(tmp_path / "a.npz")


def test_test_images_without_labels_alone_teach_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_test=np.zeros((6, 4, 4), np.uint8))
    assert "holds no images to learn from, only some for test, without labels" in refusal(tmp_path / "a.npz")


def test_a_header_that_no_parser_ends_is_a_damaged_file(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'shape': (" + b"(" * 500 + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    with pytest.raises(DataError, match=r"can't be read as an \.npz"):
        read_npz(tmp_path / "a.npz")


MEMBER = "cifar-10-batches-bin/data_batch_1.bin"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_an_archive_is_no_file_of_the_dataset(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(MEMBER)
        member.type, member.linkname = kind, "../../../etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"holds no data_batch_1\.bin"):
        fetch("cifar10", tmp_path, tmp_path / "cache")


def test_members_that_lead_elsewhere_are_never_written(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    with tarfile.open(given / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in ("../../escaped", f"{tmp_path}/escaped", MEMBER):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"123"))
    with pytest.raises(DataError, match="unpacks to 3 bytes, expected 30,730,000"):
        fetch("cifar10", given, tmp_path / "cache")
    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name]


def test_an_archive_that_unpacks_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 100_000)
    member = tarfile.TarInfo("another")
    member.size = 8 << 30
    packed(tmp_path / "cifar-10-binary.tar.gz", member.tobuf(), bytes(1 << 16), 10)
    with pytest.raises(DataError, match="gives more than 100,000 bytes"):
        fetch("cifar10", tmp_path, tmp_path / "cache")


def test_a_mirror_that_sends_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(io.BytesIO):
        length = None

    monkeypatch.setattr(sources, "MOST_BYTES", 100_000)
    monkeypatch.setattr(sources, "_connect", lambda url: Answer(bytes(200_000)))
    with pytest.raises(sources.SourceFailed, match="gives more than 100,000 bytes"):
        sources.mirror("http://mirror/", spec_of("cifar10"), tmp_path)


def test_a_containers_memory_counts_in_place_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "memory_limit", lambda: 512 << 20)
    assert base.machine_memory() == 512 << 20
    monkeypatch.setattr(base, "memory_limit", lambda: None)
    assert base.machine_memory() > 512 << 20
