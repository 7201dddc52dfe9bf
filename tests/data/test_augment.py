"""Augmentations: what they do to pixels and labels, that each image has its own, and what seeds determine."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor, nn

from bench.data.augment import AUGMENTATIONS, ERASED_AREA, ERASED_ASPECT, augment, check_strength
from bench.data.dataset import Dataset, TrainingBatches, load_dataset
from bench.training.loop import cross_entropy

CHANGES = [name for name, about in AUGMENTATIONS.items() if not about.mixes]
MIXING = ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0})
B = 64


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(side: int = 11) -> tuple[Tensor, Tensor]:
    """Images that are all of one level, each its own, which is its class: a mixture tells of what it is made."""
    labels = torch.arange(B)
    return labels.float()[:, None, None, None].expand(B, 1, side, side).clone(), labels


@pytest.mark.parametrize("name", CHANGES)
def test_augmentations_keep_shapes_depend_on_the_generator_and_rest_at_zero(name: str) -> None:
    images = torch.rand(16, 3, 8, 8) * 255
    strength = 1.0 if AUGMENTATIONS[name].high == 1 else 2.0

    def augmented(seed: int, strength: float) -> Tensor:
        return AUGMENTATIONS[name].function(images.clone(), strength, seeded(seed))

    assert augmented(0, strength).shape == images.shape
    assert torch.equal(augmented(0, strength), augmented(0, strength))
    assert not torch.allclose(augmented(0, strength), images)
    assert torch.allclose(augmented(0, 0.0), images, atol=1e-3)
    if name != "flip":
        assert not torch.equal(augmented(0, strength), augmented(1, strength))


def test_translation_moves_each_image_by_its_own_whole_pixels() -> None:
    images = torch.zeros(200, 1, 9, 9)
    images[:, :, 4, 4] = 255
    moved = AUGMENTATIONS["translation"].function(images, 2, seeded())
    places = {tuple((image[0] == 255).nonzero()[0].tolist()) for image in moved}
    assert places == set(itertools.product(range(2, 7), range(2, 7)))
    assert torch.equal(moved.sum((1, 2, 3)), images.sum((1, 2, 3)))


def test_rotation_turns_within_its_reach_and_keeps_the_centre() -> None:
    images = torch.zeros(100, 1, 9, 9)
    images[:, :, 4, 4] = 255
    images[:, :, 0, 4] = 255
    turned = AUGMENTATIONS["rotation"].function(images, 90, seeded())
    assert torch.allclose(turned[:, 0, 4, 4], torch.tensor(255.0), atol=1e-2)
    assert float(turned[:, 0, :, :3].amax()) > 100  # some turned left
    assert float(turned[:, 0, :, 6:].amax()) > 100  # some turned right
    assert float(turned[:, 0, 6:].amax()) < 30  # none went upside down


def test_erased_rectangles_have_the_area_and_aspect_of_the_paper_and_differ_between_images() -> None:
    side = 100
    images = torch.full((400, 1, side, side), -1.0)
    erased = AUGMENTATIONS["random_erasing"].function(images, 1.0, seeded())
    found = set()
    for image in erased[:, 0] != -1:
        rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        assert int(image.sum()) == height * width  # one rectangle, nothing else
        half = 0.5 * (height + width + 1) / side**2  # what rounding to whole pixels can add or take
        assert ERASED_AREA[0] - half <= height * width / side**2 <= ERASED_AREA[1] + half
        assert (height - 0.51) / (width + 0.51) <= ERASED_ASPECT[1]
        assert (height + 0.51) / (width - 0.51) >= ERASED_ASPECT[0]
        found.add((int(rows[0]), int(columns[0]), height, width))
    assert len(found) > 390
    areas = torch.tensor([height * width / side**2 for _, _, height, width in found])
    assert float(areas.mean()) == pytest.approx(sum(ERASED_AREA) / 2, abs=0.02)
    assert float(areas.min()) < 0.03
    assert float(areas.max()) > 0.31
    aspects = [height / width for _, _, height, width in found]
    assert (min(aspects), max(aspects)) == (pytest.approx(0.3, rel=0.1), pytest.approx(3.3, rel=0.1))


def test_erasing_takes_a_share_of_the_images_and_fills_them_with_all_grey_levels_alike() -> None:
    images = torch.full((500, 3, 20, 20), -1.0)
    erased = AUGMENTATIONS["random_erasing"].function(images, 0.3, seeded())
    touched = (erased != -1).flatten(1).any(1)
    assert float(touched.float().mean()) == pytest.approx(0.3, abs=0.06)
    levels = torch.bincount(erased[erased != -1].long(), minlength=256)
    assert len(levels) == 256
    assert int(levels.min()) > 0
    assert float(erased[erased != -1].mean()) == pytest.approx(127.5, abs=2)
    planes = erased.permute(0, 2, 3, 1)[(erased != -1).all(1)]  # (pixels, C)
    assert float((planes[:, 0] == planes[:, 1]).float().mean()) < 0.02  # each channel has noise of its own


def covered(tops: np.ndarray, lengths: np.ndarray, side: int) -> np.ndarray:
    """Whether each stretch of so many pixels from `top` on covers a place of the image: (stretches, side)."""
    places = np.arange(side)
    return (tops[:, None] <= places) & (places < (tops + lengths)[:, None])


def test_erased_rectangles_lie_anywhere_within_the_image_with_equal_chances() -> None:
    side, count = 16, 4_000
    erased = AUGMENTATIONS["random_erasing"].function(torch.full((count, 1, side, side), -1.0), 1.0, seeded())
    mask = (erased[:, 0] != -1).numpy()
    # Of each rectangle its own size is taken for given, and all places are tried at which it fits.
    sizes = [(int(image.any(1).sum()), int(image.any(0).sum())) for image in mask]
    chance = {
        length: covered(np.arange(side - length + 1), np.full(side - length + 1, length), side).mean(0)
        for length in range(1, side + 1)
    }
    expected = np.mean([np.outer(chance[height], chance[width]) for height, width in sizes], axis=0)
    found = mask.mean(0)
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / count)
    for flipped in (found[::-1], found[:, ::-1]):
        assert np.abs(found - flipped).max() < 5 * np.sqrt(0.5 / count)
    assert mask.mean() == pytest.approx(sum(ERASED_AREA) / 2, abs=0.005)


@pytest.mark.parametrize(("alpha", "share"), [(1.0, 0.3208), (0.3, None)])
def test_boxes_of_cutmix_lie_around_any_place_with_equal_chances(alpha: float, share: float | None) -> None:
    side, count = 16, 20_000
    found = 1 - AUGMENTATIONS["cutmix"].function(torch.zeros(count, 1, side, side), alpha, seeded()).numpy().mean(
        (0, 1)
    )
    # The whole distribution, drawn on a grid: of lengths by quantiles of the beta, of centres by tenths of a pixel.
    lengths = np.floor(side * np.sqrt(1 - stats.beta(alpha, alpha).ppf((np.arange(500) + 0.5) / 500)))
    centres = (np.arange(10 * side) + 0.5) / 10
    rows = np.stack([covered(np.floor(centres - (length - 1) / 2), length, side).mean(0) for length in lengths])
    expected = (rows[:, :, None] * rows[:, None, :]).mean(0)
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / count)
    for flipped in (found[::-1], found[:, ::-1], found.T):
        assert np.abs(found - flipped).max() < 5 * np.sqrt(0.25 / count)
    assert found.mean() == pytest.approx(expected.mean(), abs=0.01)
    if share:  # of boxes in one piece, the mean of (s - s^2 / 4)^2 over s^2 from 0 to 1; whole pixels take a little
        assert found.mean() == pytest.approx(share, abs=0.03)


def test_noise_of_erasing_is_uniform_at_each_place_of_the_words_that_it_is_drawn_in() -> None:
    """Eight pixels are drawn at once: a sign bit left out, or one byte that is always small, would be at one place."""
    images = torch.full((400, 3, 16, 16), -1.0)
    erased = AUGMENTATIONS["random_erasing"].function(images, 1.0, seeded()).flatten()
    places = torch.arange(len(erased)) % 8
    for place in range(8):
        levels = torch.bincount(erased[(places == place) & (erased != -1)].long(), minlength=256).numpy()
        assert levels.sum() > 5_000
        assert stats.chisquare(levels).pvalue > 1e-4


def fixed_draws(monkeypatch: pytest.MonkeyPatch, draws: Tensor) -> None:
    """What torch.rand gives from now on."""
    monkeypatch.setattr(torch, "rand", lambda *_, generator: draws)


def test_right_angles_are_turned_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(2, 7, 7, generator=seeded()) * 255
    fixed_draws(monkeypatch, torch.tensor([0.0, 0.5, 1.0]))
    turned = AUGMENTATIONS["rotation"].function(image.expand(3, -1, -1, -1), 90, seeded())
    for found, quarters in zip(turned, (-1, 0, 1), strict=True):
        assert torch.allclose(found, image.rot90(quarters, (1, 2)), atol=1e-2)
    fixed_draws(monkeypatch, torch.tensor([0.0, 1.0]))
    for found in AUGMENTATIONS["rotation"].function(image.expand(2, -1, -1, -1), 180, seeded()):
        assert torch.allclose(found, image.flip(1, 2), atol=1e-2)


@pytest.mark.parametrize("angle", [-30.0, 17.0, 45.0])
def test_other_angles_are_turned_as_scipy_turns_them(monkeypatch: pytest.MonkeyPatch, angle: float) -> None:
    image = torch.rand(1, 1, 9, 9, generator=seeded()) * 255
    fixed_draws(monkeypatch, torch.tensor([(angle / 60 + 1) / 2]))
    (found,) = AUGMENTATIONS["rotation"].function(image, 60, seeded())
    theirs = ndimage.rotate(image[0, 0].numpy(), angle, reshape=False, order=1, mode="grid-constant")
    assert np.abs(found[0].numpy() - theirs).max() < 0.05


def test_angles_are_uniform_within_their_reach() -> None:
    side, reach = 21, 40.0
    images = torch.zeros(2_000, 1, side, side)
    images[:, :, 2, side // 2 - 1 : side // 2 + 2] = 255  # above the middle
    turned = AUGMENTATIONS["rotation"].function(images, reach, seeded())[:, 0]
    steps = torch.arange(side) - side // 2
    down, across = ((turned * steps.view(shape)).sum((1, 2)) / turned.sum((1, 2)) for shape in ((-1, 1), (1, -1)))
    angles = torch.rad2deg(torch.atan2(-across, -down)).numpy()
    assert np.abs(angles).max() < reach + 0.5
    assert stats.kstest(angles, stats.uniform(-reach, 2 * reach).cdf).pvalue > 0.01


@pytest.mark.parametrize("strengths", MIXING, ids=" ".join)
def test_mixed_labels_sum_to_one_and_every_image_has_its_own_share(strengths: dict[str, float]) -> None:
    images, labels = numbered()
    mixed, soft = augment(images, labels, strengths, B, seeded())
    assert (mixed.shape, soft.shape, soft.dtype) == (images.shape, (B, B), torch.float32)
    assert torch.allclose(soft.sum(1), torch.ones(B))
    assert float(soft.min()) >= 0
    assert int((soft > 0).sum(1).max()) == 2
    assert len(soft.diagonal().unique()) > B / 4  # boxes of equal area aren't rare
    again, soft_again = augment(*numbered(), strengths, B, seeded())
    assert torch.equal(mixed, again)
    assert torch.equal(soft, soft_again)
    assert not torch.equal(soft, augment(*numbered(), strengths, B, seeded(1))[1])


@pytest.mark.parametrize("strengths", MIXING, ids=" ".join)
def test_labels_have_the_mean_that_the_pixels_have(strengths: dict[str, float]) -> None:
    mixed, soft = augment(*numbered(), strengths, B, seeded())
    assert torch.allclose(mixed.mean((1, 2, 3)), soft @ torch.arange(B).float(), atol=1e-3)


def test_mixup_blends_every_pixel_of_an_image_alike() -> None:
    mixed, _ = augment(*numbered(), {"mixup": 0.4}, B, seeded())
    assert torch.equal(mixed.amin((1, 2, 3)), mixed.amax((1, 2, 3)))


def test_cutmix_gives_labels_exactly_the_share_of_the_pixels() -> None:
    mixed, soft = augment(*numbered(), {"cutmix": 1.0}, B, seeded())
    own, shares = torch.arange(B), soft.diagonal()
    kept = (mixed == own[:, None, None, None]).float().mean((1, 2, 3))
    assert torch.equal(kept, shares)
    boxes = [(image[0] != label).nonzero() for image, label in zip(mixed, own, strict=True)]
    for box in (box for box in boxes if len(box)):
        height, width = (box.amax(0) - box.amin(0) + 1).tolist()
        assert len(box) == height * width  # a rectangle


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_of_mixup_are_those_of_the_beta_distribution(alpha: float) -> None:
    images = torch.zeros(20_000, 1, 1, 1)
    shares = AUGMENTATIONS["mixup"].function(images, alpha, seeded()).flatten().double()
    expected = torch.distributions.Beta(torch.tensor(alpha), torch.tensor(alpha))
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(shares.var()) == pytest.approx(float(expected.variance), rel=0.05)


def test_a_seed_draws_the_shares_that_it_drew_in_earlier_versions() -> None:
    (share,) = AUGMENTATIONS["mixup"].function(torch.zeros(1, 1, 1, 1), 0.4, seeded(4)).flatten()
    its_own = np.random.default_rng(4_003_493_888_400_498_862)  # NumPy's, whose seed are 62 bits of torch's
    assert float(share) == pytest.approx(its_own.beta(0.4, 0.4))


def test_with_both_on_a_coin_gives_each_image_one_of_them() -> None:
    mixed, soft = augment(*numbered(), {"cutmix": 1.0, "mixup": 1.0}, B, seeded())
    others = soft.diagonal() < 1
    whole = mixed == mixed.round()
    cut = whole.flatten(1).all(1) & others
    blended = ~whole.flatten(1).any(1)
    assert int((cut | blended | ~others).sum()) == B
    assert B / 4 < int(blended.sum()) < 3 * B / 4


def test_an_alpha_of_zero_mixes_nothing_and_labels_stay_whole_numbers() -> None:
    images, labels = numbered()
    kept, same = augment(images, labels, {"mixup": 0.0, "cutmix": 0}, B, seeded())
    assert torch.equal(kept, images)
    assert same is labels


def test_the_order_of_the_settings_does_not_matter(digits: Dataset) -> None:
    strengths = {"cutmix": 1.0, "translation": 2, "random_erasing": 0.5, "rotation": 15, "flip": 0.5, "mixup": 0.2}
    found = []
    for settings in (strengths, dict(reversed(strengths.items()))):
        found.append(next(iter(TrainingBatches(digits, 64, seed=0, augment=settings))))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_mixing_leaves_the_order_of_the_images_alone(digits: Dataset) -> None:
    plain = itertools.islice(TrainingBatches(digits, 64, seed=3), 25)  # beyond the first epoch's 19 steps
    mixed = itertools.islice(TrainingBatches(digits, 64, seed=3, augment={"cutmix": 1.0}), 25)
    for (_, labels), (_, soft) in zip(plain, mixed, strict=True):
        assert bool((soft.gather(1, labels[:, None]) > 0).sum() >= 60)  # a box may cover all of an image


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_model_learns_from_mixed_labels_with_and_without_smoothing(digits: Dataset, smoothing: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    losses = []
    batches = TrainingBatches(digits, 64, seed=0, augment={"mixup": 0.2, "cutmix": 1.0, "random_erasing": 0.25})
    for images, labels in itertools.islice(batches, 80):
        loss = cross_entropy(model, images, labels, smoothing)
        weights = [*model.parameters()]
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.sub_(0.1 * gradient)
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
    images = digits.normalised(digits.test.pick(torch.arange(297)).float())
    assert float((model(images).argmax(1) == digits.test.labels).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("rotation", 181, "rotation takes degrees from 0 to 180, not 181"),
        ("flip", 1.5, "flip takes a probability from 0 to 1, not 1.5"),
        ("translation", 1.5, "translation takes whole pixels from 0 to 128, not 1.5"),
        ("translation", -1, "translation takes whole pixels from 0 to 128, not -1"),
        ("random_erasing", -0.1, "random_erasing takes a probability from 0 to 1, not -0.1"),
        ("mixup", float("nan"), "mixup takes an alpha from 0 to 32, not nan"),
        ("cutmix", 33, "cutmix takes an alpha from 0 to 32, not 33"),
    ],
)
def test_a_strength_out_of_range_is_told_with_its_unit_and_range(name: str, value: float, complaint: str) -> None:
    assert check_strength(name, value) == complaint


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_both_ends_of_a_range_are_allowed_and_work(name: str) -> None:
    images, labels = torch.rand(8, 1, 6, 6) * 255, torch.arange(8) % 3
    for strength in (AUGMENTATIONS[name].low, AUGMENTATIONS[name].high):
        assert check_strength(name, strength) is None
        changed, soft = augment(images, labels, {name: strength}, 3, seeded())
        assert changed.shape == images.shape
        assert bool(changed.isfinite().all() & soft.isfinite().all())
