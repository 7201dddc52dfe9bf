"""The commands `predict`, `show` and `robustness`: trained models and images that somebody brings, or changed ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import file, folder, refuse_no_folder

if TYPE_CHECKING:
    from bench.inference.predict import Images
    from bench.inference.saved_model import Saved

IMAGES = click.option(
    "--input",
    "given",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="CSV, IDX file, folder of images or .npz [the test set].",
)
LABEL_COLUMN = click.option(
    "--label-column", metavar="NAME", help="Of a CSV: the label's name, first, last or none [as in training]."
)
TRIAL_DIR = click.argument("trial_dir", type=click.Path(path_type=Path), metavar="TRIAL_DIR")
TRUST = click.option(
    "--trust", is_flag=True, help="Import and run the model's code where the trial names some: package.module:factory."
)
DATA_DIR = click.option("--data-dir", type=folder(), metavar="DIR", help="Folder that holds the dataset's files.")


@click.command()
@TRIAL_DIR
@IMAGES
@LABEL_COLUMN
@click.option("--out", type=file(), default="predictions.csv", show_default=True, metavar="FILE", help="Written here.")
@click.option(
    "--format", "form", type=click.Choice(["csv", "kaggle"]), default="csv", show_default=True,
    help="With all probabilities; or a submission, ImageId,Label.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, mps, xpu.")
@click.option("--batch-size", type=click.IntRange(min=1), default=512, show_default=True, metavar="N")
@DATA_DIR
@TRUST
def predict(
    trial_dir: Path, given: Path | None, out: Path, form: str, device: str, batch_size: int, **where: Any
) -> None:
    """Predict images with a trained model, with the weights that validation chose.

    \b
    run_bench.py predict TRIAL_DIR --input test.csv --out mine.csv --format kaggle

    Images are resized to the model's size. Where their labels are known, the accuracy is printed.
    """
    refuse_no_folder(out)
    saved, images = _opened(trial_dir, given, **where)
    from bench.inference.predict import as_csv, as_kaggle, hits, looks_inverted, probabilities, write_predictions
    from bench.system.device import best_device

    if given is not None and (note := looks_inverted(saved, images.split)):
        click.echo(f"note: {note}", err=True)
    if images.labels_from and not images.labelled:
        click.echo(_printable(f"note: no accuracy: {images.labels_from}"), err=True)
    found = probabilities(saved, images.split, best_device() if device == "auto" else device, batch_size)
    names = saved.inputs.class_names
    write_predictions(out, as_kaggle(found, names) if form == "kaggle" else as_csv(images, found, names))
    by = f"{saved.trial.label}, seed {saved.trial.seed}"
    chosen = "with the weights that validation chose"
    click.echo(_printable(f"{out}: predictions for {len(found):,} images, by {by}, {chosen}"))
    if images.labelled:
        right = hits(found, images.split.labels)
        origin = f", by {images.labels_from}" if images.labels_from else ""
        click.echo(_printable(f"Accuracy: {right / len(found):.2%} ({right:,} of {len(found):,}){origin}"))
        if given is None:
            click.echo("The report's test accuracy is that of the weights at the end of training.")


@click.command()
@TRIAL_DIR
@click.option("--image", "index", type=click.IntRange(min=0), required=True, metavar="N", help="Which one, from 0.")
@IMAGES
@LABEL_COLUMN
@click.option(
    "--out", type=file(), default="attention.png", show_default=True, metavar="FILE", help="The picture, PNG."
)
@DATA_DIR
@TRUST
def show(trial_dir: Path, index: int, given: Path | None, out: Path, **where: Any) -> None:
    """Draw what a trained model makes of one image: probabilities, attention of every head, saliency, filters.

    \b
    run_bench.py show results/mnist/latest/trials/NAME --image 7

    Images are counted from 0, as in the trial's predictions.csv.
    """
    refuse_no_folder(out)
    saved, images = _opened(trial_dir, given, **where)
    from bench.inference.predict import view_image
    from bench.report.plots.one_image import picture_of, save_picture

    view = view_image(saved, images, index)
    save_picture(out, picture_of(view))
    click.echo(_printable(f"{out}: {view.title}"))


@click.command()
@click.argument("run_dir", type=folder(), metavar="RUN_DIR")
@click.option("--images", "most", type=click.IntRange(min=1), metavar="N", help="At most so many test images [all].")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, mps, xpu.")
@DATA_DIR
@TRUST
def robustness(run_dir: Path, most: int | None, device: str, data_dir: Path | None, trust: bool) -> None:
    """How right a run's best models stay when test images are noisy, blurred, hidden in part, turned or moved.

    \b
    run_bench.py robustness results/mnist/latest

    Each family's best, all its seeds, at five strengths each: robustness.csv, and a part of the report.
    """
    from rich.console import Console
    from rich.progress import Progress

    from bench.analysis.answer import keep_verdicts
    from bench.analysis.robustness import robustness_sheets
    from bench.analysis.summary import read_tables
    from bench.inference.robustness import measure
    from bench.report.build import write_report
    from bench.system.device import best_device

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("changed test images", total=1.0)
        device = best_device() if device == "auto" else device
        notes = measure(run_dir, data_dir, device, most, trust, lambda share: bar.update(task, completed=share))
    for note in notes:
        click.echo(_printable(f"warning: left out: {note}"), err=True)
    for sheet in robustness_sheets(read_tables(run_dir)):
        for line in sheet.said:
            click.echo(_printable(line))
    keep_verdicts(run_dir, write_report(run_dir))
    click.echo(f"Report: {run_dir / 'report.html'}")


def _opened(
    trial_dir: Path, given: Path | None, data_dir: Path | None, label_column: str | None, trust: bool
) -> "tuple[Saved, Images]":
    from bench.inference.predict import find_images
    from bench.inference.saved_model import load_trial

    saved = load_trial(trial_dir, trust)
    for note in saved.notes:
        click.echo(_printable(f"note: {note}"), err=True)
    return saved, find_images(saved, given, data_dir, label_column)


def _printable(text: str) -> str:
    """Without signs that command a terminal: names of classes and files may be somebody else's."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
