"""Splits, batches, normalisation: on real digits."""

import itertools
from dataclasses import replace

import pytest
import torch

from bench.data.dataset import Dataset, ImageFormat, TrainingBatches, evaluation_batches, load_dataset
from bench.data.splits import Split, pixel_statistics, stratified_split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def take(batches: TrainingBatches, count: int) -> list[torch.Tensor]:
    return [images for images, _ in itertools.islice(iter(batches), count)]


def test_splits_have_their_sizes_and_share_no_image(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1250, 250, 297)
    assert isinstance(digits.train, Split)
    assert digits.train.images.dtype == torch.uint8
    assert digits.image_shape == digits.train.images.shape[1:] == (1, 8, 8)
    train, val = stratified_split(torch.arange(1500) % 10, 250, seed=0)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(1500))


def test_split_gives_each_class_its_share_to_within_one_image() -> None:
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate((600, 301, 77, 22))])
    _, val = stratified_split(labels, 100, seed=3)
    counts = torch.bincount(labels[val], minlength=4)
    assert int(counts.sum()) == 100
    assert all(abs(float(c) - n / 10) < 1 for c, n in zip(counts, (600, 301, 77, 22), strict=True))


def test_split_depends_on_its_seed_alone() -> None:
    labels = torch.arange(1000) % 10
    first, again, other = (stratified_split(labels, 100, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_statistics_are_those_of_all_pixels() -> None:
    images = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    mean, std = pixel_statistics([images])
    assert torch.allclose(mean.flatten(), images.double().mean((0, 2, 3)).float())
    assert torch.allclose(std.flatten(), images.double().std((0, 2, 3), correction=0).float())


def test_an_all_black_dataset_does_not_divide_by_zero() -> None:
    _, std = pixel_statistics([torch.zeros(5, 1, 4, 4, dtype=torch.uint8)])
    assert float(std) == 1.0


def test_training_batches_are_normalised_and_an_epoch_holds_each_image_at_most_once(digits: Dataset) -> None:
    batches = TrainingBatches(digits, 64, seed=0)
    assert batches.steps_per_epoch == 19  # 1250 // 64: the smaller rest is dropped
    pixels = torch.cat(take(batches, 19))
    assert abs(float(pixels.mean())) < 0.01
    assert float(pixels.std()) == pytest.approx(1.0, abs=0.01)
    originals = (pixels * digits.std + digits.mean).round().byte()
    known = {image.numpy().tobytes() for image in digits.train.pick(torch.arange(1250))}
    seen = [image.numpy().tobytes() for image in originals]
    assert set(seen) <= known
    assert len(set(seen)) >= len(known) - 1250 % 64 - (1250 - len(known))


def test_batch_order_depends_on_seed_and_epoch_and_nothing_else(digits: Dataset) -> None:
    torch.manual_seed(1)
    first = take(TrainingBatches(digits, 625, seed=5), 4)
    torch.manual_seed(2)
    again = take(TrainingBatches(digits, 625, seed=5), 4)
    other = take(TrainingBatches(digits, 625, seed=6), 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[2])  # the next epoch has an order of its own


def test_evaluation_sees_every_image_in_order(digits: Dataset) -> None:
    parts = list(evaluation_batches(digits, digits.test, 100))
    assert [len(labels) for _, labels in parts] == [100, 100, 97]
    assert torch.equal(torch.cat([labels for _, labels in parts]), digits.test.labels)


@pytest.mark.parametrize("count", [10, 30, 100, 625])
def test_a_share_of_the_data_has_each_class_and_as_many_steps_as_all(digits: Dataset, count: int) -> None:
    batches = TrainingBatches(digits, 50, seed=1, fraction=count / 1250)
    assert batches.steps_per_epoch == TrainingBatches(digits, 50, seed=1).steps_per_epoch == 25
    assert len(batches.chosen) == len(set(batches.chosen.tolist())) == count
    classes = torch.bincount(digits.train.labels[batches.chosen], minlength=10)
    shares = torch.bincount(digits.train.labels, minlength=10) * count / 1250
    assert ((classes - shares).abs() < 1).all()
    seen = torch.cat([images for images, _ in itertools.islice(batches, 25)])
    unique, times = seen.flatten(1).unique(dim=0, return_counts=True)
    assert len(unique) == count  # real digits: no two of them are alike
    assert int(times.max()) - int(times.min()) <= 1  # whole passes, so that no image is seen much more often


def test_the_seed_draws_the_share_and_all_of_the_data_is_as_before(digits: Dataset) -> None:
    first, second, again = (TrainingBatches(digits, 50, seed, fraction=0.1).chosen.tolist() for seed in (0, 1, 0))
    assert first == again != second
    whole, plain = TrainingBatches(digits, 50, 0, fraction=1.0), TrainingBatches(digits, 50, 0)
    for a, b in zip(take(whole, 30), take(plain, 30), strict=True):
        assert torch.equal(a, b)


def test_a_batch_larger_than_the_share_holds_images_twice(digits: Dataset) -> None:
    (images,) = take(TrainingBatches(digits, 64, 0, fraction=20 / 1250), 1)
    assert len(images) == 64
    assert len(images.flatten(1).unique(dim=0)) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_images_enter_in_the_format_asked_for_with_the_same_contents(digits: Dataset, dtype: torch.dtype) -> None:
    form = ImageFormat(dtype, torch.channels_last)
    (plain,), (images,) = take(TrainingBatches(digits, 50, 0), 1), take(TrainingBatches(digits, 50, 0, form=form), 1)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, plain.to(dtype))
    (looked_at, _), *_ = evaluation_batches(digits, digits.val, 50, form)
    assert (looked_at.dtype, looked_at.is_contiguous(memory_format=torch.channels_last)) == (dtype, True)


@pytest.mark.parametrize(("normalization", "black", "white"), [("unit", 0, 1), ("symmetric", -1, 1)])
def test_fixed_normalisation_puts_black_and_white_where_it_says(normalization: str, black: int, white: int) -> None:
    digits = load_dataset("digits", normalization=normalization)  # type: ignore[arg-type]
    images, _ = next(iter(TrainingBatches(digits, 64, 0)))
    assert (float(images.min()), float(images.max())) == (black, white)


def test_processes_read_shares_of_a_batch_that_together_are_the_whole_however_each_augments(digits: Dataset) -> None:
    whole = [next(iter(TrainingBatches(digits, 64, seed=3)))]
    parts = [next(iter(TrainingBatches(digits, 64, seed=3, rank=rank, world_size=4))) for rank in range(4)]
    assert torch.equal(torch.cat([images for images, _ in parts]), whole[0][0])
    assert torch.equal(torch.cat([labels for _, labels in parts]), whole[0][1])

    def order(rank: int, world_size: int) -> list[torch.Tensor]:
        batches = TrainingBatches(digits, 600, 3, {"translation": 1}, rank=rank, world_size=world_size)
        return [labels for _, labels in itertools.islice(batches, 4)]  # two steps an epoch

    for shares, together in zip(zip(order(0, 2), order(1, 2), strict=True), order(0, 1), strict=True):
        assert torch.equal(torch.cat(shares), together)


def test_processes_draw_their_own_augmentations_and_the_first_those_of_one_alone(digits: Dataset) -> None:
    def first(rank: int) -> torch.Tensor:
        same = replace(digits, train=Split(digits.train.pick(torch.zeros(1250).long()), digits.train.labels))
        images, _ = next(iter(TrainingBatches(same, 64, 3, {"translation": 2}, rank=rank, world_size=2)))
        return images

    assert not torch.equal(first(0), first(1))
    assert torch.equal(first(1), first(1))
