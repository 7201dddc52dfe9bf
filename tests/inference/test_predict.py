"""`predict` and `show`: what a trained model makes of images, in files that others read."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from made_up_data import digits, write_csv
from matplotlib.text import Text
from PIL import Image
from torch import Tensor
from trained import train_trial, untrained_trial

from bench.cli.trained import predict, show
from bench.data.dataset import load_dataset
from bench.data.spec import UserDataOptions
from bench.data.splits import Split
from bench.data.user_data import describe
from bench.errors import DataError, DeviceError, UserError
from bench.inference.gallery_file import ImageView
from bench.inference.predict import Images, as_csv, as_kaggle, as_picture, find_images, probabilities, view_image
from bench.inference.saved_model import Saved, load_trial
from bench.report.plots import one_image
from bench.report.plots.one_image import picture_of
from bench.training.checkpoint import PREDICTIONS, TRIAL
from bench.trial import Trial


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_trial(tmp_path_factory.mktemp("run") / "one")


@pytest.fixture
def saved(trained: Path) -> Saved:
    return load_trial(trained)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not left, "half-written files were left"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments: object) -> Result:
    """A command, whose mistakes of people's come out as they are raised."""
    commands = {"predict": predict, "show": show}
    name, *rest = map(str, arguments)
    return CliRunner().invoke(commands[name], rest, catch_exceptions=True)


def numbered(found: Tensor, labels: Tensor | None = None, names: list[str] | None = None) -> Images:
    """Images of which only names and labels matter."""
    known = torch.zeros(len(found)) if labels is None else labels
    split = Split(torch.zeros(len(found), 1, 1, 1), known.long())
    return Images(split, names or [str(i) for i in range(len(found))], labels is not None)


def test_predictions_of_the_test_set_are_those_of_the_trial(trained: Path, here: Path) -> None:
    result = run("predict", trained, "--device", "cpu", "--batch-size", 64)
    assert result.exit_code == 0, result.output
    ours, theirs = rows(here / "predictions.csv"), rows(trained / PREDICTIONS)
    assert [row["name"] for row in ours] == [row["index"] for row in theirs]
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert [row["prediction"] for row in ours] == [row["prediction_best"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert abs(float(mine["confidence"]) - float(other["confidence_best"])) < 2e-4
    right = sum(row["label"] == row["prediction"] for row in ours)
    assert f"Accuracy: {right / 297:.2%} ({right} of 297)" in result.output


def test_which_weights_were_used_is_said_and_inverted_images_are_noticed(trained: Path, here: Path) -> None:
    said = run("predict", trained, "--device", "cpu").stdout
    assert "with the weights that validation chose" in said
    assert said.endswith("The report's test accuracy is that of the weights at the end of training.\n")
    images, labels = digits()
    for name, pixels in (("as learned", images), ("inverted", 255 - images)):
        np.savez(here / "a.npz", images=pixels[:50], labels=labels[:50])
        result = run("predict", trained, "--input", here / "a.npz", "--device", "cpu")
        assert ("they look inverted; if so, swap black and white" in result.stderr) == (name == "inverted")


def test_a_row_holds_every_classs_probability(saved: Saved, trained: Path, here: Path) -> None:
    run("predict", trained, "--device", "cpu")
    found = probabilities(saved, find_images(saved, None).split)
    assert found.shape == (297, 10)
    torch.testing.assert_close(found.sum(1), torch.ones(297))
    for row, shares in zip(rows(here / "predictions.csv"), found.tolist(), strict=True):
        written = [float(row[f"p_{name}"]) for name in saved.inputs.class_names]
        assert np.abs(np.array(written) - shares).max() < 1e-6
        assert row["prediction"] == str(int(np.argmax(written)))


def test_images_that_somebody_brings_are_predicted_like_the_same_ones_of_the_test_set(
    saved: Saved, trained: Path, here: Path
) -> None:
    test = find_images(saved, None).split
    images, labels = test.pick(torch.arange(20)), test.labels[:20]
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        (here / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(here / "pictures" / str(label) / f"{index:02}.png")
    pixels = images.flatten(1).numpy()
    header = ",".join(f"pixel{number}" for number in range(64))
    np.savetxt(here / "test.csv", pixels, fmt="%d", delimiter=",", header=header, comments="")
    known = np.column_stack([labels.numpy(), pixels])
    np.savetxt(here / "train.csv", known, fmt="%d", delimiter=",", header=f"label,{header}", comments="")
    expected = probabilities(saved, Split(images, labels)).argmax(1).tolist()
    for name, labelled in (("test.csv", False), ("train.csv", True), ("pictures", True)):
        result = run("predict", trained, "--input", name, "--device", "cpu")
        assert result.exit_code == 0, result.output
        assert ("Accuracy" in result.output) == labelled
        found = rows(here / "predictions.csv")
        assert ("label" in found[0]) == labelled
        if name == "pictures":
            found.sort(key=lambda row: Path(row["name"]).name)
        else:
            assert [row["name"] for row in found] == [str(number) for number in range(1, 21)]
        assert [int(row["prediction"]) for row in found] == expected


def test_the_column_of_labels_is_that_of_training_and_it_is_said_and_may_be_named(trained: Path, here: Path) -> None:
    images, labels = digits()
    write_csv(here / "train.csv", 100)
    (here / "train.csv").write_text((here / "train.csv").read_text().replace("label", "digit", 1))
    data = describe(UserDataOptions(path="train.csv"), here)
    assert data.label_column == "digit"
    given = Trial.model_validate_json((trained / TRIAL).read_bytes()).model_copy(update={"data": data})
    shutil.copytree(trained, here / "own")
    (here / "own" / TRIAL).write_text(given.model_dump_json(), encoding="utf-8")
    table = pd.DataFrame(images[30:40].reshape(10, 64)).add_prefix("pixel")
    for name in ("X", "specimen"):  # which number the rows
        table.assign(**{name: range(10)}).to_csv(here / "a.csv", index=False)
        assert "Accuracy" not in run("predict", here / "own", "--input", "a.csv", "--device", "cpu").stdout
    table.assign(writer=3, digit=labels[30:40]).to_csv(here / "a.csv", index=False)
    for option in ((), ("--label-column", "digit")):
        result = run("predict", here / "own", "--input", "a.csv", "--device", "cpu", *option)
        assert result.exit_code == 0, result.output
        assert "of 10), by column digit\n" in result.stdout
        assert [row["label"] for row in rows(here / "predictions.csv")] == [*map(str, labels[30:40])]
    table.assign(label="cat").to_csv(here / "b.csv", index=False)
    unknown = run("predict", trained, "--input", "b.csv", "--device", "cpu")
    assert "note: no accuracy: column label: 'cat' and all others are no class's name" in unknown.stderr
    asked = run("predict", trained, "--input", "a.csv", "--device", "cpu")
    assert "which column is the label (writer, digit)? say --label-column NAME" in str(asked.exception)
    assert "Accuracy" not in run("predict", trained, "--input", "a.csv", "--label-column", "none").stdout
    result = run("show", trained, "--image", 0, "--input", "a.csv", "--label-column", "digit")
    assert result.exit_code == 0, result.output


def test_a_submission_is_what_kaggle_takes(trained: Path, here: Path) -> None:
    result = run("predict", trained, "--format", "kaggle", "--out", "submission.csv", "--device", "cpu")
    assert result.exit_code == 0, result.output
    lines = (here / "submission.csv").read_bytes().decode("ascii").split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("ImageId,Label", "", 297 + 2)
    for number, line in enumerate(lines[1:-1], 1):
        image_id, label = line.split(",")
        assert image_id == str(number)
        assert label in set("0123456789")
    theirs = [row["prediction_best"] for row in rows(trained / PREDICTIONS)]
    assert [line.split(",")[1] for line in lines[1:-1]] == theirs


def test_names_survive_csv_and_none_of_them_is_a_formula_but_numbers_stay_numbers() -> None:
    names = ["=1+1", "+cmd", "-1", "@x", '"a", b\nc', "日本", "-2.5e3", "\tx"]
    found = torch.eye(8)
    text = as_csv(numbered(found, torch.arange(8), names), found, names)
    header, *table = list(csv.reader(io.StringIO(text)))
    assert header == ["name", "label", "prediction", "confidence", *(f"p_{name}" for name in names)]
    harmless = ["'=1+1", "'+cmd", "-1", "'@x", '"a", b\nc', "日本", "-2.5e3", "'\tx"]
    for column in range(3):
        assert [row[column] for row in table] == harmless
    # There, a label must be that of the training data.
    assert as_kaggle(found[:1], names) == "ImageId,Label\n1,=1+1\n"


def test_without_labels_there_is_no_column_of_them() -> None:
    found = torch.tensor([[0.25, 0.75]])
    assert (
        as_csv(numbered(found), found, ["a", "b"])
        == "name,prediction,confidence,p_a,p_b\n0,b,0.7500,0.250000,0.750000\n"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("native_half_precision")
@pytest.mark.parametrize(("family", "dtype"), [("vit", "amp-bf16"), ("cnn", "bf16")])
def test_a_model_predicts_in_the_mode_it_was_trained_in(tmp_path: Path, family: str, dtype: str) -> None:
    folder = train_trial(tmp_path / "t", family, dtype)
    saved = load_trial(folder)
    images = find_images(saved, None)
    found = probabilities(saved, images.split, batch_size=250)
    theirs = [int(row["prediction_best"]) for row in rows(folder / PREDICTIONS)]
    assert found.argmax(1).tolist() == theirs
    view = view_image(saved, images, 3)
    assert int(view.probabilities.argmax()) == theirs[3]
    assert (view.attention is None) == (family == "cnn")
    assert (view.kernels is None) == (family == "vit")


def test_mistakes_are_told_before_any_work(trained: Path, here: Path) -> None:
    for name in ("predict", "show"):
        more = ["--image", 0] if name == "show" else []
        assert "there is no folder nowhere" in str(run(name, trained, *more, "--out", "nowhere/x").exception)
        assert run(name, trained, *more, "--input", "missing.csv").exit_code == 2
    (here / "folder.png").mkdir()
    assert run("show", trained, "--image", 0, "--out", "folder.png").exit_code == 2
    wrong_device = run("predict", trained, "--device", "abacus").exception
    assert isinstance(wrong_device, DeviceError)
    beyond = run("show", trained, "--image", 297).exception
    assert isinstance(beyond, UserError)
    assert str(beyond) == "--image 297: there are 297 images, 0 to 296"
    assert not (here / "attention.png").exists()


def test_an_input_without_images_is_one_line(saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("pixel0,pixel1\n")
    with pytest.raises(DataError) as caught:
        find_images(saved, tmp_path / "empty.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_the_look_at_a_vit_holds_every_head_and_what_reaches_the_head(pool: str, tmp_path: Path) -> None:
    saved = load_trial(untrained_trial(tmp_path / "t", pool=pool, patch_size=4, depth=3))
    images = find_images(saved, None)
    view = view_image(saved, images, 5)
    assert view.attention is not None
    assert view.rollout is not None
    assert view.attention.shape == (3, 2, 2, 2)
    assert view.rollout.shape == (2, 2)
    shares = view.attention.sum(axis=(2, 3))
    assert np.allclose(shares, 1, atol=1e-5) if pool == "mean" else (shares < 1).all()
    assert np.array_equal(view.image, load_dataset("digits").test.pick(torch.tensor([5]))[0, 0])
    assert view.truth == int(images.split.labels[5])
    assert f"the model says {view.class_names[int(view.probabilities.argmax())]}" in view.title


def test_show_draws_one_picture(trained: Path, here: Path) -> None:
    result = run("show", trained, "--image", 2)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("attention.png: Image 2: the model says")
    with Image.open(here / "attention.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
    drawn = np.asarray(Image.open(here / "attention.png").convert("L"))
    assert drawn.min() == 0
    assert drawn.max() == 255


def made_up_view(**changes: object) -> ImageView:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    given = {"title": "Image 0", "said": "x", "image": image, "truth": 0, "probabilities": np.array([0.2, 0.8]),
             "class_names": ["a", "b"], "saliency": np.ones((4, 4))}  # fmt: skip
    return ImageView(**{**given, **changes})  # type: ignore[arg-type]


def texts(view: ImageView) -> list[str]:
    figure = picture_of(view)
    found = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    return list(dict.fromkeys(found))  # a tick has two labels, of which one is drawn


def test_the_picture_names_the_truth_and_the_shares() -> None:
    shown = texts(made_up_view())
    assert {"the image: a", "a (truth)", "b", "20.0", "80.0", "saliency over the image"} <= set(shown)
    unknown = texts(made_up_view(truth=None))
    assert "the image" in unknown
    assert not any("truth" in text for text in unknown)


def test_of_many_classes_the_likeliest_and_the_truth_have_bars() -> None:
    shares = np.linspace(1, 0, 40) / 20
    shown = texts(made_up_view(probabilities=shares, class_names=[f"c{i}" for i in range(40)], truth=39))
    assert [text for text in shown if text.startswith("c")] == [f"c{i}" for i in range(9)] + ["c39 (truth)"]


def test_a_deep_and_wide_net_shows_as_much_as_can_be_read_and_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_image, "MOST_ROWS", 2)
    monkeypatch.setattr(one_image, "MOST_COLUMNS", 4)
    shares = np.random.default_rng(0).dirichlet(np.ones(4), (9, 5)).reshape(9, 5, 2, 2)
    shown = texts(made_up_view(attention=shares, rollout=np.eye(2)))
    assert any("; 4 of 9 blocks; 4 of 5 heads" in text for text in shown)
    assert [text for text in shown if text.startswith("block ")] == ["block 1", "block 4", "block 6", "block 9"]


def test_names_are_drawn_literally_even_where_they_look_like_mathematics_or_no_font_has_them() -> None:
    shown = texts(made_up_view(class_names=["$x_", "\N{EGYPTIAN HIEROGLYPH A001}"], title="Image 0 (a$b$^.png)"))
    assert "Image 0 (a$b$^.png)" in shown
    assert "$x_ (truth)" in shown


def test_a_picture_of_any_number_of_channels_can_be_drawn() -> None:
    pixels = torch.arange(4 * 2 * 2, dtype=torch.uint8).view(4, 2, 2)
    assert as_picture(pixels[:1]).tolist() == [[0, 1], [2, 3]]
    assert as_picture(pixels[:3]).shape == (2, 2, 3)
    assert as_picture(pixels[:2]).tolist() == [[2, 3], [4, 5]]
