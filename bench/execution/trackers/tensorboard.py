"""TensorBoard: an event file a trial, written whole when the trial has ended.

TensorBoard's own writer, which torch's SummaryWriter uses, has a thread behind it, which may wait for ever on a full
disk. Here its record format and messages are used without that writer: a trial's events are few and all known.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from bench.execution.trackers.base import CURVES, Tracker, attempted, begin_and_end, measures, parameters
from bench.result import Result
from bench.trial import Trial


class TensorBoard(Tracker):
    """Writes `<run>/tensorboard/<trial_id>/`, which `tensorboard --logdir <run>/tensorboard` shows."""

    def open(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder / "tensorboard"

    @attempted
    def end(self, trial: Trial, result: Result) -> None:
        """One file, whole or not at all; its name is always the same, so a trial is never there twice."""
        data = io.BytesIO()
        records = RecordWriter(data)
        for event in _events(trial, result):
            records.write(event.SerializeToString())
        folder = self.folder / trial.trial_id
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".partial"
        temporary.write_bytes(data.getvalue())
        temporary.replace(folder / "events.out.tfevents.0.trial")

    def complaint(self, error: Exception) -> str:
        return f"--tensorboard: {type(error).__name__}: {error}; no more event files are written"


def _events(trial: Trial, result: Result) -> Iterator[Event]:
    """The trial's settings, its curves, its final measures.

    A curve is there over steps, its wall time being the start plus the training seconds (so that TensorBoard's
    "relative" axis shows training time), and, since that axis begins at the first point, once more over training
    milliseconds, which TensorBoard calls steps.
    """
    start, end = begin_and_end(result)
    chosen = parameters(trial, result) | {"status": result.status or "failed"}
    yield Event(wall_time=start, file_version="brain.Event:2")
    yield Event(wall_time=start, summary=hparams_pb(chosen, trial_id=trial.trial_id, start_time_secs=start))
    rows = sorted(result.evaluations, key=lambda row: row["step"])
    for tag in CURVES:
        for row in rows:
            yield _scalar(tag, row[tag], row["step"], start + (row["train_seconds"] or 0.0))
        for row in rows:
            if row["train_seconds"] is not None:  # those that ran side by side have no times
                milliseconds = round(1000 * row["train_seconds"])
                yield _scalar(f"{tag}/over_training_ms", row[tag], milliseconds, start + row["train_seconds"])
    for name, value in measures(result).items():
        yield _scalar(f"final/{name}", value, 0, end)


def _scalar(tag: str, value: float, step: int, wall_time: float) -> Event:
    return Event(wall_time=wall_time, step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
