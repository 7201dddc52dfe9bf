"""Changed test images against SciPy and plain arithmetic, and what a report says of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import make_run
from made_up_data import digits
from scipy import ndimage

from bench.analysis.robustness import CLEAN, read_robustness, robustness_sheets, write_robustness
from bench.analysis.summary import Tables, read_tables
from bench.errors import StoreError
from bench.inference import robustness
from bench.inference.robustness import CORRUPTIONS, measure, new_draws, versions
from bench.report.build import write_report


def images(count: int = 6, size: int = 24, channels: int = 1) -> torch.Tensor:
    """Levels from 0 to 1."""
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_corruption_has_five_strengths_keeps_the_range_and_harms_more_at_each() -> None:
    shown = torch.from_numpy(digits()[0][:200])[:, None]
    shown = shown.repeat_interleave(3, 2).repeat_interleave(3, 3)
    distance: dict[str, list[float]] = {}
    for name, strength, changed in versions(shown, new_draws()):
        assert changed.shape == shown.shape
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 255
        distance.setdefault(name, []).append(float((changed - shown).abs().mean()))
        assert strength == (0 if name == CLEAN else len(distance[name]))
    assert distance.pop(CLEAN) == [0.0]
    assert list(distance) == list(CORRUPTIONS)
    for name, found in distance.items():
        assert len(found) == 5, name
        assert found == sorted(found), name
        assert found[0] > 0, name


def test_what_is_drawn_is_the_same_again_and_no_corruption_draws_from_anothers() -> None:
    shown = (images() * 255).byte()
    first, again = ([changed for *_, changed in versions(shown, new_draws())] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    only = {key: generator for key, generator in new_draws().items() if key[0] == "occlusion"}
    alone = [changed for name, _, changed in versions(shown, only) if name != CLEAN]
    among = [changed for name, _, changed in versions(shown, new_draws()) if name == "occlusion"]
    assert all(torch.equal(a, b) for a, b in zip(alone, among, strict=True))


def test_noise_is_gaussian_of_the_deviation_and_each_pixel_has_its_own() -> None:
    added = robustness.noise(torch.zeros(50, 3, 40, 40), 0.18, draws())
    assert float(added.mean()) == pytest.approx(0, abs=0.002)
    assert float(added.std()) == pytest.approx(0.18, rel=0.01)
    assert len(added.unique()) > 0.9 * added.numel()


@pytest.mark.parametrize("share", CORRUPTIONS["blur"][1])
def test_a_blur_is_scipys(share: float) -> None:
    shown = images()
    found = robustness.blur(shown, share, draws())
    deviation = share * 24
    radius = math.ceil(3 * deviation)
    for image, other in zip(found[:, 0], shown[:, 0], strict=True):
        expected = ndimage.gaussian_filter(other.double().numpy(), deviation, mode="mirror", radius=radius)
        assert np.abs(image.numpy() - expected).max() < 1e-6


def test_contrast_and_brightness_are_plain_arithmetic() -> None:
    shown = images(channels=3)
    pixels = shown.double().numpy()
    mean = pixels.mean((2, 3), keepdims=True)
    assert np.abs(robustness.contrast(shown, 0.2, draws()).numpy() - (mean + 0.2 * (pixels - mean))).max() < 1e-6
    assert np.abs(robustness.brightness(shown, 0.3, draws()).numpy() - (pixels + 0.3)).max() < 1e-6


def test_an_occlusion_is_one_grey_square_anywhere() -> None:
    shown = torch.full((400, 1, 10, 10), 0.9)
    hidden = (robustness.occlusion(shown, 0.3, draws()) == robustness.GREY)[:, 0]
    assert (hidden.sum((1, 2)) == 9).all()
    tops, lefts = hidden.any(2).int().argmax(1), hidden.any(1).int().argmax(1)
    assert sorted(tops.unique().tolist()) == sorted(lefts.unique().tolist()) == list(range(8))
    for top, left, mask in zip(tops, lefts, hidden, strict=True):
        assert mask[top : top + 3, left : left + 3].all()


def moved(image: np.ndarray, matrix: np.ndarray, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """An image (H, W) seen through a map of (row, column) from its middle, by SciPy."""
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ middle + np.array(shift)
    return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1, mode="nearest"))


def is_one_of(found: torch.Tensor, candidates: list[np.ndarray]) -> list[int]:
    """Which of the candidates an image is, to a hundred-thousandth; nothing where it is none."""
    return [place for place, each in enumerate(candidates) if np.abs(found.numpy() - each).max() < 1e-5]


@pytest.mark.parametrize("degrees", CORRUPTIONS["rotation"][1])
def test_images_are_turned_to_either_side_as_scipy_does(degrees: float) -> None:
    shown = images(12)
    sides = []
    angle, turned = math.radians(degrees), robustness.rotation(shown, degrees, draws())
    for image, found in zip(shown[:, 0].double().numpy(), turned[:, 0], strict=True):
        turns = [np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]) for a in (angle, -angle)]
        sides += is_one_of(found, [moved(image, turn) for turn in turns])
    assert len(sides) == 12
    assert set(sides) == {0, 1}


@pytest.mark.parametrize("factor", CORRUPTIONS["scale"][1])
def test_images_are_enlarged_or_shrunk_as_scipy_does(factor: float) -> None:
    shown = images(12)
    ways = []
    scaled = robustness.scale(shown, factor, draws())
    for image, found in zip(shown[:, 0].double().numpy(), scaled[:, 0], strict=True):
        ways += is_one_of(found, [moved(image, np.eye(2) * step) for step in (factor, 1 / factor)])
    assert len(ways) == 12
    assert set(ways) == {0, 1}


def test_images_are_shifted_by_a_share_of_their_side_in_any_direction() -> None:
    shown = torch.zeros(300, 1, 40, 40)
    shown[:, :, 18:22, 18:22] = 1.0  # its middle is the image's
    found = robustness.translation(shown, 0.2, draws())[:, 0].double().numpy()
    middles = np.array([ndimage.center_of_mass(image) for image in found]) - 19.5
    assert np.abs(np.hypot(*middles.T) - 0.2 * 40).max() < 1e-3
    assert np.abs(middles.mean(0)).max() < 1.0
    quarters = np.histogram(np.arctan2(*middles.T), 8, (-math.pi, math.pi))[0]
    assert quarters.min() > 300 / 8 / 2


def test_what_comes_free_is_filled_with_the_edge() -> None:
    light = torch.full((20, 1, 16, 16), 0.8)
    for change in (robustness.rotation, robustness.translation, robustness.scale):
        assert float((change(light, 0.25, draws()) - 0.8).abs().max()) < 1e-6


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)], dtypes=["fp32"]))


RIGHT = {"vit": (9_800, (9_000, 8_000)), "cnn": (9_900, (8_000, 6_000))}  # as they are; noise at strengths 1 and 2


def write_made_up(tables: Tables) -> None:
    rows = []
    for trial in tables.trials.to_dict("records"):
        clean, noisy = RIGHT[trial["model"]]
        facts = {key: trial[key] for key in ("trial_id", "config_id", "device_name", "model")}
        facts |= {"seed": int(trial["seed"]), "images": 10_000}
        found = [(CLEAN, 0, clean), *(("noise", place + 1, right) for place, right in enumerate(noisy))]
        rows += [facts | {"corruption": name, "strength": s, "right": right} for name, s, right in found]
    write_robustness(tables.folder, rows)


def test_the_sheet_has_means_over_strengths_and_a_difference_with_its_interval(tables: Tables) -> None:
    assert robustness_sheets(tables) == []
    write_made_up(tables)
    (sheet,) = robustness_sheets(tables)
    assert sheet.head == ["test images", "ViT", "CNN", "CNN less ViT"]
    assert [[cell.text for cell in row] for row in sheet.rows] == [
        [CLEAN, "98.00%", "99.00%", "1.00 points"],
        ["noise", "85.00%", "70.00%", "-15.00 points"],
        ["all changes", "85.00%", "70.00%", "-15.00 points"],
    ]
    half = 100 * math.hypot(*(1.96 * math.sqrt(p * (1 - p) / 10_000) for p in (0.85, 0.7)))
    low, high = (float(end) for end in sheet.rows[1][3].interval.split(" to "))
    assert (low, high) == (pytest.approx(-15 - half, abs=0.02), pytest.approx(-15 + half, abs=0.02))
    assert sheet.said == [
        "Accuracy on 10,000 test images, each changed at five strengths; n = 3 seeds, weights that validation chose.",
        "Mean corruption error: ViT 15.00% (as they are 2.00%) and CNN 30.00% (as they are 1.00%).",
    ]


def test_seeds_that_came_later_are_told(tables: Tables) -> None:
    write_made_up(tables)
    rows = pd.read_csv(tables.folder / "robustness.csv")
    rows[rows["seed"] == 0].to_csv(tables.folder / "robustness.csv", index=False)
    (sheet,) = robustness_sheets(tables)
    assert "n = 1 seed of 3 that there are now (`run_bench.py robustness` again takes all)" in sheet.said[0]


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(StoreError, match="can't be written to; copy the run to another folder"):
        measure(tables.folder)


@pytest.mark.slow
def test_the_report_has_them_folded_and_a_damaged_table_costs_a_line_alone(tables: Tables) -> None:
    write_report(tables.folder)
    assert "Changed test images" not in (tables.folder / "report.html").read_text()
    write_made_up(tables)
    write_report(tables.folder)
    assert "Mean corruption error: ViT 15.00%" in (tables.folder / "report.html").read_text()
    assert "Mean corruption error: ViT 15.00%" in (tables.folder / "report.md").read_text()
    assert (tables.folder / "plots" / "robustness.svg").is_file()
    (tables.folder / "robustness.csv").write_text("trial_id,seed\nx,?\n")
    with pytest.raises(StoreError, match="makes it anew"):
        read_robustness(tables)
    write_report(tables.folder)
    page = (tables.folder / "report.html").read_text()
    assert "robustness.csv: can&#39;t be read" in page
    assert "Mean corruption error" not in page


def test_trials_that_the_run_no_longer_has_are_passed_over(tables: Tables) -> None:
    write_made_up(tables)
    path = tables.folder / "robustness.csv"
    path.write_text(path.read_text().replace(str(tables.trials["trial_id"].iloc[0]), "another"))
    assert len(read_robustness(tables)) == 3 * (len(tables.trials) - 1)


def test_what_was_measured_of_an_earlier_best_is_not_told_of_the_present_one(tables: Tables) -> None:
    write_made_up(tables)
    path = tables.folder / "robustness.csv"
    best = tables.summary.loc[tables.summary["model"] == "vit", "config_id"].iloc[0]
    path.write_text(path.read_text().replace(f",{best},", ",0123456789,"))
    assert {*read_robustness(tables)["model"]} == {"cnn"}


@pytest.mark.parametrize(
    ("old", "new"), [(",10000,", ",0,"), (",9000", ",10001"), (",9000", ",-1"), (",vit,", ",net,")]
)
def test_counts_that_cannot_be_are_refused(tables: Tables, old: str, new: str) -> None:
    write_made_up(tables)
    path = tables.folder / "robustness.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StoreError, match="makes it anew"):
        read_robustness(tables)
