"""What people bring is trained on: Fashion-MNIST as IDX, MNIST as CSV, PNGs of mixed sizes and colours, an .npz.

The images are real: the first 600 training images of either dataset, and 200 test images of Fashion-MNIST.
"""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import read_table
from PIL import Image

from bench.config.plan import load_plan
from bench.config.suite_file import read_suite
from bench.data.readers.idx import read_idx
from bench.result import Result
from bench.session import Request, run_session
from bench.training.run import run_trial

REAL = Path(__file__).parents[1] / "fixtures" / "images"
VIT: dict[str, Any] = {"model": "vit", "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_CNN_BENCH_CACHE", str(tmp_path / "cache"))


def trained_on(dataset: Any, folder: Path, **more: Any) -> Result:
    """The result of the one trial of a suite on `dataset`."""
    entry = VIT | {"patch_size": 7} | more
    suite = {"dataset": dataset, "models": [entry], "batch_size": 50, "instrument_seconds": 0, "timing": "whole"}
    (folder / "mine.yaml").write_text(json.dumps(suite), encoding="utf-8")
    (trial,) = load_plan(read_suite(folder / "mine.yaml")).trials
    result = run_trial(trial)
    assert result.status == "ok", result.error
    return result


@pytest.mark.slow
def test_fashion_mnist_from_idx_files(tmp_path: Path) -> None:
    for path in REAL.glob("fashion-mnist-*.gz"):
        shutil.copy(path, tmp_path / path.name.removeprefix("fashion-mnist-"))
    result = trained_on({"path": str(tmp_path), "name": "Fashion"}, tmp_path, epochs=8)
    assert result.dataset == "Fashion"
    assert result.num_train_images == 540  # a tenth is set aside for validation
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.4  # a guess has 0.1


@pytest.mark.slow
def test_mnist_from_a_csv(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(gzip.decompress((REAL / "mnist.csv.gz").read_bytes()))
    result = trained_on(str(tmp_path / "train.csv"), tmp_path, epochs=8)
    assert result.num_train_images == pytest.approx(600 * 0.9 * 0.9, abs=2)  # whole images of each class
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.3


@pytest.mark.slow
def test_an_npz(tmp_path: Path) -> None:
    images, labels = (
        read_idx(REAL / f"fashion-mnist-train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1")
    )
    np.savez(
        tmp_path / "f.npz", train_images=images, train_labels=labels, test_images=images[:90], test_labels=labels[:90]
    )
    result = trained_on(str(tmp_path / "f.npz"), tmp_path, epochs=8)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.4


@pytest.fixture
def shoes_and_bags(tmp_path: Path) -> Path:
    """A folder of PNGs for each of two classes, of mixed sizes; some in colour."""
    images, labels = (
        read_idx(REAL / f"fashion-mnist-train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1")
    )
    folder = tmp_path / "things"
    for label, name in ((9, "ankle <boot>"), (8, "Tasche, groß")):
        (folder / name).mkdir(parents=True)
        for index, pixels in enumerate(images[labels == label]):
            side = 20 + 7 * (index % 4)
            image = Image.fromarray(pixels).resize((side, side))
            image.convert("RGB" if index % 2 else "L").save(folder / name / f"{index}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["in memory", "streamed"])
def test_a_folder_of_pngs_of_mixed_sizes(stream: bool, shoes_and_bags: Path, tmp_path: Path) -> None:
    data = {"path": str(shoes_and_bags), "image_size": 28, "stream": stream}
    result = trained_on(data, tmp_path, epochs=40)
    assert result.test_accuracy is not None
    assert result.test_accuracy > 0.7  # of two classes
    assert (result.data_wait_seconds is not None) == stream
    assert not stream or 0 <= (result.data_wait_seconds or 0) <= (result.train_seconds or 0)


@pytest.mark.slow
def test_a_whole_run_on_ones_own_images(shoes_and_bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suite = {"dataset": "digits", "models": [VIT | {"patch_size": 7}], "epochs": 2, "speed_seconds": 0}
    (tmp_path / "mine.yaml").write_text(json.dumps(suite), encoding="utf-8")
    options = ["batch_size=20", "dataset.image_size=28"]
    request = Request("mine.yaml", data=Path("things"), settings=options, quiet=True, executor="in-process")
    answer = run_session(request)
    assert answer.exit_status == 0
    assert set(read_table(answer.folder, "trials.csv")["dataset"]) == {"things"}
    record = json.loads((answer.folder / "run.json").read_text(encoding="utf-8"))
    assert record["dataset"]["class_names"] == ["ankle <boot>", "Tasche, groß"]
    page = (answer.folder / "report.html").read_text(encoding="utf-8")
    assert "<boot>" not in page
    assert "Resized with antialiasing from 4 sizes" in page
    again = run_session(Request(None, resume=answer.folder, quiet=True, executor="in-process"))
    assert again.exit_status == 0
    assert len(read_table(answer.folder, "trials.csv")) == len(record["plan"])
    (shoes_and_bags / "ankle <boot>" / "0.png").unlink()
    with pytest.raises(Exception, match="no longer has all trials"):
        run_session(Request(None, resume=answer.folder, quiet=True, executor="in-process"))
