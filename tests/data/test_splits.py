"""Streamed images: the same batches as from memory, waits that are counted, workers that end."""

import itertools
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from PIL import Image

from bench.data import splits
from bench.data.dataset import Dataset, TrainingBatches, evaluation_batches, load_dataset
from bench.data.download import CACHE_VARIABLE
from bench.data.readers.idx import read_idx, write_idx
from bench.data.spec import UserDataOptions
from bench.data.splits import Split, StreamedSplit, pixel_statistics
from bench.data.user_data import describe
from bench.errors import DataError

COUNT = 50  # images in each split
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # two workers on a single core


@pytest.fixture(scope="module")
def in_memory() -> Dataset:
    """A few of the digits."""
    whole = load_dataset("digits")
    few = torch.arange(COUNT)
    train, val, test = (Split(split.pick(few), split.labels[few]) for split in (whole.train, whole.val, whole.test))
    return replace(whole, train=train, val=val, test=test)


@pytest.fixture(scope="module")
def streamed(in_memory: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The same with a file for each image."""
    folder = tmp_path_factory.mktemp("images")

    def written(name: str, workers: int) -> StreamedSplit:
        split = getattr(in_memory, name)
        paths = [folder / f"{name}-{index}" for index in range(len(split))]
        for path, image in zip(paths, split.images, strict=True):
            write_idx(path, image.numpy())
        return StreamedSplit(paths, split.labels, read_idx, workers=workers)

    return replace(in_memory, train=written("train", 2), val=written("val", 1), test=written("test", 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("augment", "fraction"),
    [({}, 1.0), ({"translation": 2, "rotation": 10, "random_erasing": 0.5, "cutmix": 1.0, "mixup": 0.2}, 0.5)],
    ids=["plain", "a share, augmented and mixed"],
)
def test_streaming_gives_the_batches_that_memory_gives_over_epochs(
    in_memory: Dataset, streamed: Dataset, augment: dict[str, float], fraction: float
) -> None:
    batches = [TrainingBatches(data, 16, 7, augment, fraction) for data in (in_memory, streamed)]
    assert batches[1].steps_per_epoch == 3  # 50 // 16: the smaller rest is dropped
    for (images, labels), (read, known) in itertools.islice(zip(*batches, strict=True), 8):
        assert torch.equal(images, read)
        assert torch.equal(labels, known)


@pytest.mark.slow
def test_streaming_draws_nothing_from_the_generator_of_the_model(streamed: Dataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    next(iter(TrainingBatches(streamed, 16, 7)))
    list(evaluation_batches(streamed, streamed.val, 32))
    assert torch.equal(torch.rand(4), expected)


def test_evaluation_streams_all_in_order_again_and_again(in_memory: Dataset, streamed: Dataset) -> None:
    next(evaluation_batches(streamed, streamed.test, 16))  # a look that nobody finishes
    for _ in range(2):
        expected = evaluation_batches(in_memory, in_memory.test, 16)
        found = evaluation_batches(streamed, streamed.test, 16)
        for (images, labels), (read, known) in zip(expected, found, strict=True):
            assert torch.equal(images, read)
            assert torch.equal(labels, known)


def test_two_evaluations_at_once_do_not_disturb_each_other(in_memory: Dataset, streamed: Dataset) -> None:
    first, second = streamed.val.in_order(25), streamed.val.in_order(25)
    for (images, _), (others, _), expected in zip(
        first, second, in_memory.val.pick(torch.arange(50)).split(25), strict=True
    ):
        assert torch.equal(images, expected)
        assert torch.equal(others, expected)


def test_a_dataset_that_streams_has_the_sizes_and_labels_of_one_in_memory(
    in_memory: Dataset, streamed: Dataset
) -> None:
    device = torch.device("cpu")
    for data in (streamed, streamed.to(device)):
        assert data.image_shape == (1, 8, 8)
        assert len(data.train) == COUNT
        assert torch.equal(data.test.labels, in_memory.test.labels)
        assert torch.equal(data.test.pick(torch.tensor([4, 2])), in_memory.test.pick(torch.tensor([4, 2])))


def test_statistics_are_exact_for_few_images_and_those_of_a_fixed_sample_for_many(
    in_memory: Dataset, streamed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(streamed.val, StreamedSplit)
    pixels = in_memory.val.pick(torch.arange(COUNT))
    exact = pixel_statistics([pixels])
    assert all(torch.equal(a, b) for a, b in zip(streamed.val.statistics(), exact, strict=True))
    monkeypatch.setattr(splits, "SAMPLE", 10)
    sampled, again = streamed.val.statistics(), streamed.val.statistics()
    assert torch.equal(sampled[0], again[0])
    assert not torch.equal(sampled[0], exact[0])
    assert float(sampled[0]) == pytest.approx(float(exact[0]), rel=0.2)


def test_waits_are_counted_in_training_alone_and_the_first_batch_comes_before_the_count(
    in_memory: Dataset, streamed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TrainingBatches(in_memory, 16, 7).waited_seconds is None
    data = streamed.to(torch.device("cpu"))
    batches = TrainingBatches(data, 16, 7)
    ticks = itertools.count()
    monkeypatch.setattr(splits.time, "perf_counter", lambda: float(next(ticks)))  # a second at each look
    warm = iter(batches)
    assert batches.waited_seconds == 0
    next(warm)
    assert batches.waited_seconds == 0
    for _ in range(3):
        next(warm)
    assert batches.waited_seconds == 3
    list(evaluation_batches(data, data.val, 25))
    assert batches.waited_seconds == 3
    assert len([*itertools.islice(batches, 3)]) == 3
    assert batches.waited_seconds == 5


def test_workers_end_with_the_iterator_or_the_split_that_they_read_for(streamed: Dataset) -> None:
    before = set(multiprocessing.active_children())
    source = iter(TrainingBatches(streamed, 16, 7))
    next(source)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del source
    split = streamed.to(torch.device("cpu")).val
    next(split.in_order(25))
    workers |= set(multiprocessing.active_children()) - before
    assert len(workers) == 3
    del split
    assert not workers & set(multiprocessing.active_children())


def test_an_image_that_cannot_be_read_is_named_in_one_line_and_the_others_still_come(
    streamed: Dataset, tmp_path: Path
) -> None:
    before = set(multiprocessing.active_children())
    good = streamed.val
    assert isinstance(good, StreamedSplit)
    damaged = tmp_path / "damaged-image"
    damaged.write_bytes(b"no image")
    paths = [damaged if index == 20 else path for index, path in enumerate(good.paths)]
    split = StreamedSplit(paths, good.labels, read_idx, workers=1)
    source = split.in_order(10)
    assert [len(labels) for _, labels in itertools.islice(source, 2)] == [10, 10]
    with pytest.raises(DataError, match=r"\A[^\n]*damaged-image isn't an IDX file[^\n]*\Z"):
        next(source)
    training = TrainingBatches(replace(streamed, train=split), 10, 0)
    with pytest.raises(DataError, match="damaged-image"):
        list(itertools.islice(training, 5))
    del source, training, split
    assert set(multiprocessing.active_children()) <= before  # the complaint holds on to nothing


def test_a_folder_that_streams_gives_the_same_dataset_as_one_that_fits(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
    levels = torch.randint(0, 256, (3, 8, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for label, images in zip("abc", levels, strict=True):
        (tmp_path / label).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image.numpy()).save(tmp_path / label / f"{number}.png")
    found = describe(UserDataOptions(path=str(tmp_path), image_size=6, val_fraction=0.2, test_fraction=0.25), tmp_path)
    data, streams = (
        load_dataset("mine", user_data=found.model_copy(update={"stream": stream})) for stream in (False, True)
    )
    assert isinstance(data.train, Split)
    assert isinstance(streams.train, StreamedSplit)
    assert isinstance(streams.val, StreamedSplit)
    assert torch.equal(data.mean, streams.mean)
    assert torch.equal(data.std, streams.std)
    for kept, twin in ((data.train, streams.train), (data.val, streams.val), (data.test, streams.test)):
        assert torch.equal(kept.labels, twin.labels)
        assert torch.equal(kept.pick(torch.arange(len(kept))), twin.pick(torch.arange(len(kept))))
    Path(streams.val.paths[0]).write_bytes(b"no image")
    with pytest.raises(DataError, match=Path(streams.val.paths[0]).name):
        next(evaluation_batches(streams, streams.val, 2))


def _read_and_hang(split: StreamedSplit, sender: Connection) -> None:
    source = split.read(torch.arange(10) for _ in itertools.count())
    next(source)
    sender.send([child.pid for child in multiprocessing.active_children()])
    time.sleep(600)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that can be killed without a word")
@pytest.mark.slow
def test_workers_of_a_process_that_was_killed_end_too(streamed: Dataset) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("forkserver")
    assert isinstance(streamed.train, StreamedSplit)
    process = context.Process(target=_read_and_hang, args=(streamed.train, sender))
    process.start()
    assert receiver.poll(300)
    workers = receiver.recv()
    assert len(workers) == 2
    assert all(_lives(pid) for pid in workers)
    process.kill()
    process.join()
    for _ in range(2400):
        if not any(_lives(pid) for pid in workers):
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its parent by two minutes")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
