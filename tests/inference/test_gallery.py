"""The gallery: which models it shows, what it counts of their predictions, and that no name or file can break it."""

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import change_rows, make_run
from made_up_gallery import make_gallery
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file

from bench.analysis.summary import read_tables
from bench.config.recipes import RECIPES
from bench.errors import DataError
from bench.inference import gallery as gallery_module
from bench.inference.error_analysis import (
    Outcomes,
    agreement,
    confused_pairs,
    confusion,
    disagreements,
    one_each,
    read_outcomes,
    worst_mistakes,
)
from bench.inference.gallery import LARGEST, choose, collect, smaller
from bench.inference.gallery_file import Gallery, Insides, read_gallery, write_gallery
from bench.report.figures import GALLERY_PLOTS, MISTAKES, draw_gallery
from bench.report.plots.style import STYLE, WIDTH, class_labels, house_style, shortened
from bench.store.run_folder import RunFolder
from bench.training.checkpoint import _save_predictions
from bench.training.run import run_trial
from bench.trial import Trial
from models import MODELS

NAMES = [
    *(
        "<script>alert(1)</script>",
        "from $5 to $6",
        "日本語",
        '∂α,\n"β"',
        "a name that is far too long to draw",
        "",
        "𓀀",
    )
]
PLOTS = {plot.name: plot for plot in (*MISTAKES, *GALLERY_PLOTS)}
CHARTS = [name for name, plot in PLOTS.items() if plot.as_svg]
PIXELS = [name for name, plot in PLOTS.items() if not plot.as_svg]


def drawn(folder: Path) -> list[Any]:
    return draw_gallery(folder, tuple(PLOTS.values()))


SIZES = {"vit": {"patch_size": 4, "depth": 2, "embed_dim": 16, "num_heads": 2}, "cnn": {"depth": 1, "width": 4}}


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    """Two nets trained on the digits for an epoch, and their gallery."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    store = RunFolder.create(folder, {"suite": "tiny", "targets": [], "dataset": {"title": "digits"}})
    for family, sizes in SIZES.items():
        trial = Trial(
            suite="tiny", dataset="digits", model=family, settings=MODELS[family][0](**sizes).model_dump(),
            recipe=family, training=RECIPES[family].model_copy(update={"epochs": 1, "batch_size": 50}),
            dtype="fp32", device="cpu", instrument_seconds=0.0,
        )  # fmt: skip
        store.append(run_trial(trial, folder / "trials" / trial.trial_id))
    store.close()
    for name, few in {"SAMPLES": 5, "MISTAKES": 3, "LOOKED": 3, "FILTERS": 8}.items():  # axes are slow to draw
        patch.setattr(gallery_module, name, few)
    assert collect(folder)
    return folder


@pytest.fixture(scope="module")
def collected(run: Path) -> Gallery:
    gallery = read_gallery(run)
    assert gallery is not None
    return gallery


def test_a_run_s_gallery_holds_what_its_predictions_weights_and_images_say(run: Path, collected: Gallery) -> None:
    assert [model.model for model in collected.models] == ["vit", "cnn"]
    assert collected.images is not None
    assert collected.label_counts is not None
    trials = read_tables(run).trials.set_index("trial_id")
    for index, model in enumerate(collected.models):
        matrix = collected.confusion[index]
        assert np.trace(matrix) / matrix.sum() == pytest.approx(model.accuracy)
        assert model.accuracy == pytest.approx(trials.loc[model.trial_id, "test_accuracy_best"])
    assert collected.label_counts[2].tolist() == collected.confusion[0].sum(axis=1).tolist()
    assert collected.images.shape == (len(collected.labels), 1, 8, 8)
    vit, cnn = collected.insides
    looked = len(collected.looked)
    assert vit.attention_heads is not None
    assert vit.attention_heads.shape == (looked, 2, 2, 2)
    assert vit.attention_depths is not None
    assert vit.attention_depths.shape == (looked, 2, 2, 2)
    assert np.allclose(vit.attention_heads.astype(float).sum(axis=(2, 3)), 1, atol=1e-2)  # all tokens on average
    assert cnn.attention_heads is None
    weights = load_file(run / "trials" / collected.models[1].trial_id / "model_best.safetensors")
    stored = weights["stem.0.weight"].numpy()
    assert cnn.first_filters is not None
    strengths = np.linalg.norm(cnn.first_filters.astype(float).reshape(len(stored), -1), axis=1)
    assert (np.diff(strengths) < 1e-2).all()
    assert np.allclose(np.sort(cnn.first_filters.ravel()), np.sort(stored.ravel()), atol=1e-2)


def test_images_of_a_gallery_are_those_that_the_predictions_are_about(run: Path, collected: Gallery) -> None:
    from bench.data.dataset import load_dataset

    test = load_dataset("digits").test
    assert collected.images is not None
    assert np.array_equal(collected.images, test.images[collected.indices].numpy())  # type: ignore[union-attr]
    assert np.array_equal(collected.labels, test.labels[collected.indices].numpy())


def test_a_gallery_made_again_is_the_same(run: Path, tmp_path: Path) -> None:
    again = shutil.copytree(run, tmp_path / "again")
    assert collect(again)
    for name in ("gallery.npz", "gallery.json"):
        old, new = ((folder / "gallery" / name).read_bytes() for folder in (run, again))
        assert old == new or name.endswith("npz")
    with np.load(run / "gallery" / "gallery.npz") as a, np.load(again / "gallery" / "gallery.npz") as b:
        assert a.files == b.files
        assert all(np.array_equal(a[key], b[key]) for key in a.files)


@pytest.mark.slow
def test_pictures_say_in_words_what_they_show(run: Path, collected: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STYLE, "savefig.dpi", 50)
    (run / "plots").mkdir(exist_ok=True)
    (run / "plots" / "disagreements.svg").write_text("stale")
    pictures = drawn(run)
    # classes are even, and maps of 2 by 2 patches show nothing
    left_out = {"label_distribution", "attention_heads", "attention_rollout", "position_similarity"}
    names = [name for name in PLOTS if name not in left_out]
    assert [picture.name for picture in pictures] == names
    files = {path.name for path in (run / "plots").iterdir()}
    assert files == {f"{name}.png" for name in names} | {f"{name}.svg" for name in CHARTS if name in names}
    assert sum(len(picture.source) for picture in pictures) < 1_500_000
    alts = {picture.name: picture.alt for picture in pictures}
    wrong = int(collected.confusion[0].sum() - np.trace(collected.confusion[0]))
    assert f"ViT: {wrong:,} of {collected.confusion[0].sum():,} wrong" in alts["confusion"]
    assert f"Both right: {collected.agreement['both_right']:,}" in alts["disagreements"]
    assert all(any(letter.isdigit() for letter in alt) for alt in alts.values())
    for name in set(PIXELS) & set(names):
        with Image.open(run / "plots" / f"{name}.png") as picture:
            assert picture.width == int(WIDTH * 50)


def test_without_weights_predictions_are_shown_and_a_better_gallery_stays(run: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(run, tmp_path / "bare")
    for path in bare.glob("trials/*/model_best.safetensors"):
        path.unlink()
    before = (bare / "gallery" / "gallery.npz").read_bytes()
    assert not collect(bare)
    assert (bare / "gallery" / "gallery.npz").read_bytes() == before
    shutil.rmtree(bare / "gallery")
    assert collect(bare)
    gallery = read_gallery(bare)
    assert gallery is not None
    assert len(gallery.confusion) == 2
    assert gallery.images is not None
    assert gallery.insides == [Insides(), Insides()]
    assert collect(run)  # a whole one takes the place of any


def test_a_run_that_kept_no_predictions_has_no_gallery(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)])
    assert not collect(folder)
    assert drawn(folder) == []


def test_each_family_s_best_shows_its_seed_of_median_validation_accuracy(tmp_path: Path) -> None:
    accuracies = {"vit-p4-d2": (0.91, 0.99, 0.95), "vit-p4-d4": (0.94, 0.90, 0.94), "cnn-d2": (0.96, 0.97, 0.95)}
    folder = make_run(tmp_path / "run", configs=[("vit", 4, 2), ("vit", 4, 4), ("cnn", None, 2)], dtypes=("fp32",))
    trials = read_tables(folder).trials
    changes = {}
    for start, values in accuracies.items():
        for seed, value in enumerate(values):
            (mine,) = trials["trial_id"][trials["trial_id"].str.startswith(start) & (trials["seed"] == seed)]
            changes[mine] = {"val_accuracy": value}
    change_rows(folder, changes)
    for trial_id in trials["trial_id"]:
        (folder / "trials" / trial_id).mkdir(parents=True)
        (folder / "trials" / trial_id / "predictions.csv").write_text("")
    vit, cnn = choose(read_tables(folder))
    assert (vit.model, vit.seed, vit.num_seeds) == ("vit", 2, 3)
    assert "d2" in vit.label
    assert (cnn.model, cnn.seed) == ("cnn", 0)
    (folder / "trials" / vit.trial_id / "predictions.csv").unlink()
    assert choose(read_tables(folder))[0].seed == 0  # the lower of the two that are left


def test_outcomes_are_counted_and_ordered_as_by_hand(tmp_path: Path) -> None:
    labels = np.array([0, 1, 2, 1, 0, 2])
    first = np.array([0, 2, 2, 0, 1, 0])  # right, wrong, right, wrong, wrong, wrong
    second = np.array([0, 1, 1, 0, 2, 2])  # right, right, wrong, wrong, wrong, right
    sure = np.array([[0.9, 0.8, 0.7, 0.95, 0.8, 0.6], [0.5, 0.4, 0.3, 0.9, 0.9, 0.95]])
    outcomes = Outcomes(labels, np.stack([first, second]), sure)
    assert confusion(labels, first, 3).tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 1]]
    assert confused_pairs(np.array([[5, 0, 2], [3, 9, 0], [0, 2, 7]])) == [(1, 0, 3), (0, 2, 2), (2, 1, 2)]
    assert worst_mistakes(outcomes, 0, 3).tolist() == [3, 1, 4]  # of equals the earlier
    assert worst_mistakes(outcomes, 1, 9).tolist() == [3, 4, 2]
    assert disagreements(outcomes, 0, 1, 9).tolist() == [2]
    assert disagreements(outcomes, 1, 0, 9).tolist() == [5, 1]
    assert list(agreement(outcomes).values()) == [1, 1, 2, 1, 1]
    assert one_each(labels, np.array([1, 2, 4, 5]), 2).tolist() == [4, 2]
    header = "index,label,prediction,confidence,prediction_best,confidence_best\n"
    rows = "".join(f"{i},{labels[i]},9,0.1,{first[i]},{sure[0, i]}\n" for i in range(6))
    (tmp_path / "predictions.csv").write_text(header + rows)
    for names in ("abc", ["0", "1", "2"]):  # of older runs the classes' places, whatever their names
        read = read_outcomes([tmp_path / "predictions.csv"], names)
        assert read.predictions.tolist() == [first.tolist()]
        assert read.confidences.tolist() == [sure[0].tolist()]
    names = ["=SUM(1)", "3", "two\nlines"]
    said = {"label": torch.from_numpy(labels), "prediction_best": torch.from_numpy(first)}
    _save_predictions(said | {"confidence_best": torch.from_numpy(sure[0])}, names, tmp_path / "predictions.csv")
    again = read_outcomes([tmp_path / "predictions.csv"], names)
    assert (again.labels.tolist(), again.predictions.tolist()) == (labels.tolist(), [first.tolist()])
    assert '\n1,3,"two\nlines",0.8000\n' in (tmp_path / "predictions.csv").read_text()


def test_large_images_are_made_smaller_by_means() -> None:
    image = np.arange(130 * 130, dtype=np.float32).reshape(1, 1, 130, 130)
    small = smaller(image)
    assert max(small.shape) <= LARGEST
    assert small[0, 0, 0, 0] == image[0, 0, :3, :3].mean()
    assert small[0, 0, -1, -1] == image[0, 0, 129:, 129:].mean()  # a rest counts as what it is
    assert smaller(image[..., :64, :64]) is not None
    assert np.array_equal(smaller(image[..., :64, :64]), image[..., :64, :64])


@pytest.mark.parametrize("damage", ["cut", "json", "other run", "pickle", "list", "class"])
def test_a_damaged_gallery_breaks_nothing_and_leaves_no_old_pictures(damage: str, tmp_path: Path) -> None:
    write_gallery(tmp_path, make_gallery(["a", "b", "c"], images=300))
    npz, facts = tmp_path / "gallery" / "gallery.npz", tmp_path / "gallery" / "gallery.json"
    assert read_gallery(tmp_path) is not None
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "disagreements.png").write_bytes(b"old")
    if damage == "cut":
        npz.write_bytes(npz.read_bytes()[:-500])
    elif damage == "json":
        facts.write_text(facts.read_text()[:-20])
    elif damage == "list":
        facts.write_text("[]")
    elif damage == "pickle":
        np.savez(npz, confusion=np.array([object()]))
    elif damage == "class":
        facts.write_text(json.dumps(json.loads(facts.read_text()) | {"class_names": [1, 2, 3]}))
    else:
        write_gallery(tmp_path / "plots", make_gallery(["a", "b"], images=300))
        shutil.copy(tmp_path / "plots" / "gallery" / "gallery.npz", npz)
        shutil.rmtree(tmp_path / "plots" / "gallery")
    assert drawn(tmp_path) == []
    assert list((tmp_path / "plots").iterdir()) == []


def test_names_are_drawn_literally_whatever_they_hold() -> None:
    gallery = make_gallery(NAMES, channels=3, side=16, images=500)
    texts: list[Any] = []
    for name in ("confusion", "class_accuracy", "worst_mistakes"):
        with house_style(gallery.class_names):
            figure = PLOTS[name].draw(gallery)
            assert figure is not None
            texts += [text for text in figure.findobj() if hasattr(text, "get_parse_math")]
    shown = [text for text in texts if "$5" in text.get_text()]
    assert shown
    assert not any(text.get_parse_math() for text in shown)
    assert any(text.get_text().startswith("<script>") for text in texts)


def test_a_name_that_no_font_can_draw_becomes_its_number_and_a_long_one_is_shortened() -> None:
    labels = class_labels(NAMES, 20)
    assert labels[5:] == ["class 5", "class 6"]
    assert labels[1] == "from $5 to $6"
    assert len(labels[4]) <= 20
    assert shortened("a name that is far too long to draw", 12) == "a name t…raw"
    with warnings.catch_warnings(), house_style(NAMES):
        figure = Figure()
        figure.text(0, 0, "𓀀 日本語")
        figure.canvas.draw()


def test_many_classes_and_a_single_model_have_pictures_too() -> None:
    many = make_gallery([f"kind {i}" for i in range(40)], models=("a:net",), side=8, images=900)
    with house_style(many.class_names):
        assert all(PLOTS[name].draw(many) is not None for name in CHARTS)
        assert PLOTS["disagreements"].draw(many) is PLOTS["first_filters"].draw(many) is None
        without = replace(many, images=None, insides=[Insides()])
        assert all(PLOTS[name].draw(without) is None for name in PIXELS)


def test_without_the_data_there_are_counts_and_no_images(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: object, **keywords: object) -> None:
        raise DataError("digits: not here")

    monkeypatch.setattr("bench.inference.gallery.load_dataset", missing)
    bare = shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("gallery", "plots"))
    assert collect(bare)
    gallery = read_gallery(bare)
    assert gallery is not None
    assert gallery.images is gallery.label_counts is None
    with house_style(gallery.class_names):
        assert all(PLOTS[name].draw(gallery) is None for name in PIXELS)
        assert PLOTS["confusion"].draw(gallery) is not None
