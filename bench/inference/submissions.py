"""Submissions: what the best models of a run say of images that nobody has labelled, in Kaggle's format."""

from collections.abc import Container
from pathlib import Path

from bench.analysis.summary import read_tables
from bench.inference.gallery import choose
from bench.inference.predict import as_kaggle, find_images, probabilities, write_predictions
from bench.inference.saved_model import load_trial


def write_submissions(folder: Path, unlabelled: Path, trust: bool | Container[str] = False) -> list[Path]:
    """`submissions/<trial_id>.csv` in a run's folder, for the models that its gallery shows; the files written.

    Args:
        trust: as load_trial's: whether models that are somebody's code may be imported, or whose.

    Raises:
        StoreError: the folder isn't a run, or a trial's weights are damaged.
        DataError: the images can't be read.
    """
    written = []
    for model in choose(read_tables(folder)):
        saved = load_trial(folder / "trials" / model.trial_id, trust=trust)
        images = find_images(saved, unlabelled)
        path = folder / "submissions" / f"{model.trial_id}.csv"
        path.parent.mkdir(exist_ok=True)
        write_predictions(path, as_kaggle(probabilities(saved, images.split), saved.inputs.class_names))
        written.append(path)
    return written
