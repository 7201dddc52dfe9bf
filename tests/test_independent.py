"""A whole run, worked out a second time from its files by tests/independent.py: accuracies, predictions, costs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from independent import MODELS, Net, calibration_error, logits_of, num_params, read_idx, softmax
from made_up_data import digits
from model_checks import randomise

from bench.data.dataset import Dataset, load_dataset
from bench.data.download import CACHE_VARIABLE
from bench.data.readers.idx import write_idx
from bench.data.splits import Split
from bench.inference.robustness import measure, new_draws, versions
from bench.session import Request, run_session
from bench.trial import Trial
from models import MODELS as OURS
from models import build_model

SUITE = """
dataset: images
models:
  - {model: vit, patch_size: 4, depth: 2, embed_dim: 16, num_heads: 2, pool: class}
  - {model: cnn, depth: 3, width: 4, growth: 1.5}
learning_rate: 0.01
batch_size: 50
epochs: 3
evaluations_per_epoch: 2
timing: whole
instrument_seconds: 0
targets: [0.15, 0.2, 0.9999]
"""
N_TRAIN, N_TEST = 330, 70


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both families, on digits of 16 x 16 pixels in MNIST's four files."""
    folder = tmp_path_factory.mktemp("independent")
    (folder / "images").mkdir()
    images, labels = digits()
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    for role, rows in (("train", slice(0, N_TRAIN)), ("t10k", slice(N_TRAIN, N_TRAIN + N_TEST))):
        write_idx(folder / "images" / f"{role}-images-idx3-ubyte", images[rows])
        write_idx(folder / "images" / f"{role}-labels-idx1-ubyte", labels[rows].astype(np.uint8))
    (folder / "suite.yaml").write_text(SUITE.replace("images", str(folder / "images")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(CACHE_VARIABLE, str(folder / "cache"))
        patch.setattr("bench.inference.gallery.collect", lambda *_: False)
        patch.setattr("bench.report.build.write_pages", lambda _: [])
        run_session(Request("suite.yaml", out=folder / "run", executor="in-process", quiet=True))
    return folder / "run"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trials(run: Path) -> list[tuple[Path, dict[str, str]]]:
    """Each trial's folder and its row."""
    found = [(run / "trials" / row["trial_id"], row) for row in rows(run / "trials.csv")]
    assert [row["status"] for _, row in found] == ["ok"] * 2
    return found


def idx(run: Path, name: str) -> np.ndarray:
    return read_idx(run.parent / "images" / name)


def test_each_prediction_and_both_accuracies_come_out_of_the_weights_again(run: Path) -> None:
    images, labels = idx(run, "t10k-images-idx3-ubyte"), idx(run, "t10k-labels-idx1-ubyte")
    for folder, row in trials(run):
        told = rows(folder / "predictions.csv")
        assert [line["label"] for line in told] == [str(label) for label in labels]
        for end, weights in (("", "model.safetensors"), ("_best", "model_best.safetensors")):
            chances = softmax(logits_of(folder, images, weights)[0])
            assert [line[f"prediction{end}"] for line in told] == [str(best) for best in chances.argmax(1)]
            confidences = [float(line[f"confidence{end}"]) for line in told]
            assert np.abs(confidences - chances.max(1)).max() < 1e-4
            assert float(row[f"test_accuracy{end}"]) == (chances.argmax(1) == labels).mean()
        assert len({line["prediction"] for line in told}) > 1, "a net that always says the same proves little"
        assert float(row["commonest_share"]) == np.bincount(labels).max() / N_TEST
        assert row["commonest_class"] == str(np.bincount(labels).argmax())
        right = np.array([line["prediction"] == line["label"] for line in told])
        recalls = [right[labels == label].mean() for label in np.unique(labels)]
        chances = softmax(logits_of(folder, images)[0])
        sure = chances.max(1)
        assert float(row["test_loss"]) == pytest.approx(-np.log(chances[np.arange(N_TEST), labels]).mean(), abs=1e-6)
        surest = np.argsort(-sure, kind="stable")[: -(-9 * N_TEST // 10)]
        assert float(row["accuracy_at_90_coverage"]) == pytest.approx(right[surest].mean(), abs=1e-12)
        assert float(row["calibration_error"]) == pytest.approx(
            calibration_error(sure.tolist(), right.tolist()), abs=1e-6
        )
        assert float(row["test_balanced_accuracy"]) == pytest.approx(np.mean(recalls), abs=1e-12)


def test_accuracies_on_changed_images_come_out_of_the_weights_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(run.parent / "cache"))
    assert measure(run) == []
    told = rows(run / "robustness.csv")
    images, labels = idx(run, "t10k-images-idx3-ubyte"), idx(run, "t10k-labels-idx1-ubyte")
    for folder, row in trials(run):
        own = [line for line in told if line["trial_id"] == folder.name]
        assert int(own[0]["right"]) / N_TEST == float(row["test_accuracy_best"])
        again = versions(torch.from_numpy(images.copy())[:, None], new_draws())
        for line, (name, strength, changed) in zip(own, again, strict=True):
            assert (line["corruption"], line["strength"], line["images"]) == (name, str(strength), str(N_TEST))
            logits, _ = logits_of(folder, changed[:, 0].numpy(), "model_best.safetensors")
            assert int(line["right"]) == (logits.argmax(1) == labels).sum(), (name, strength)
    damaged = trials(run)[0][0] / "model_best.safetensors"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (note,) = measure(run, most=20)
    assert note.endswith("model_best.safetensors isn't what was written")
    assert {line["trial_id"] for line in rows(run / "robustness.csv")} == {trials(run)[1][0].name}
    damaged.write_bytes(content)
    measure(run, most=20)
    some = rows(run / "robustness.csv")
    assert {line["images"] for line in some} == {"20"}
    assert len(some) == len(told)


def test_parameters_and_flops_are_those_of_a_second_count(run: Path) -> None:
    image = idx(run, "t10k-images-idx3-ubyte")[:1]
    for folder, row in trials(run):
        _, net = logits_of(folder, image)
        assert (int(row["num_params"]), int(row["num_flops"])) == (num_params(net.weights), net.flops)


def dataset_of(folder: Path) -> Dataset:
    trial = Trial.model_validate_json((folder / "trial.json").read_text())
    return load_dataset(trial.dataset, None, trial.split_seed, trial.data)


def test_validation_images_are_neither_trained_on_nor_normalised_by(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(run.parent / "cache"))
    known, tested = (idx(run, f"{role}-images-idx3-ubyte") for role in ("train", "t10k"))
    for folder, _ in trials(run):
        data, inputs = dataset_of(folder), json.loads((folder / "data.json").read_text())
        parts: list[list[bytes]] = []
        for split in (data.train, data.val, data.test):
            assert isinstance(split, Split)
            parts.append([image.numpy().tobytes() for image in split.images])
        train, val, test = parts
        assert sorted(train + val) == sorted(image.tobytes() for image in known)
        assert test == [image.tobytes() for image in tested]
        assert not set(train) & set(val)
        assert not set(test) & set(train + val)
        pixels = np.frombuffer(b"".join(train), np.uint8)
        assert (inputs["mean"], inputs["std"]) == (
            [pytest.approx(pixels.mean(), rel=1e-6)],
            [pytest.approx(pixels.std(), rel=1e-6)],
        )


def test_validation_accuracies_come_out_of_the_weights_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(run.parent / "cache"))
    for folder, row in trials(run):
        val = dataset_of(folder).val
        assert isinstance(val, Split)
        for column, weights in (("val_accuracy", "model"), ("val_accuracy_best", "model_best")):
            logits, _ = logits_of(folder, val.images[:, 0].numpy(), f"{weights}.safetensors")
            assert float(row[column]) == (logits.argmax(1) == val.labels.numpy()).mean()


def test_what_a_row_says_of_training_follows_from_its_evaluations(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    summary = {row["config_id"]: row for row in rows(run / "summary.csv")}
    for folder, row in trials(run):
        seen = [line for line in rows(run / "evaluations.csv") if line["trial_id"] == folder.name]
        steps, seconds, accuracies = (
            np.array([float(line[name]) for line in seen]) for name in ("step", "train_seconds", "val_accuracy")
        )
        assert steps.tolist() == [
            2,
            5,
            8,
            10,
            12,
            15,
        ]  # five of an epoch, of 50 images each; an even number, where half a step is due
        assert float(row["val_accuracy"]) == accuracies[-1]
        assert float(row["val_accuracy_best"]) == accuracies.max()
        assert row["train_loss"] == seen[-1]["train_loss"]
        assert float(row["evaluation_interval_seconds"]) == pytest.approx(np.median(np.diff(seconds, prepend=0)))
        expected: dict[str, Any] = {}
        for target in record["targets"]:
            there = np.flatnonzero(accuracies >= target)
            expected[f"images_to_{target:g}"] = 50 * steps[there[0]] if len(there) else None
            expected[f"seconds_to_{target:g}"] = seconds[there[0]] if len(there) else None
        told = summary[row["config_id"]]
        for column, value in expected.items():
            assert told[column] == "" if value is None else float(told[column]) == pytest.approx(value), column
        of_headline = [expected[f"{what}_to_0.2"] for what in ("images", "seconds")]
        for column, value in zip(("images_to_accuracy", "time_to_accuracy_seconds"), of_headline, strict=True):
            assert row[column] == "" if value is None else float(row[column]) == pytest.approx(value), column
        blocks = [line for line in rows(run / "throughput.csv") if line["trial_id"] == folder.name]
        speeds = [float(block["images"]) / float(block["seconds"]) for block in blocks]
        assert float(row["images_per_second"]) == pytest.approx(np.median(speeds))


@pytest.mark.parametrize(
    ("family", "settings", "size"),
    [
        ("vit", {"pool": "mean", "depth": 1, "embed_dim": 12, "num_heads": 3, "mlp_ratio": 1.5, "patch_size": 4}, 12),
        ("vit", {"pool": "class", "positions": "sincos", "depth": 3, "embed_dim": 8, "patch_size": 2}, 8),
        ("cnn", {"depth": 1, "width": 3, "kernel_size": 5}, 8),
        ("cnn", {"depth": 5, "width": 3, "growth": 1.0}, 32),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
@torch.no_grad()
def test_other_shapes_give_the_same_logits(family: str, settings: dict[str, Any], size: int) -> None:
    full = OURS[family][0](**settings).model_dump()
    model = build_model(family, full, size, 2, 3).double().eval()
    randomise(model)
    images = torch.randn(4, 2, size, size, generator=torch.Generator().manual_seed(5)).double()
    net = Net({name: value.double().numpy() for name, value in model.state_dict().items()})
    assert np.abs(MODELS[family](net, full, images.numpy()) - model(images).numpy()).max() < 1e-9
