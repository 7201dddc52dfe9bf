"""How long one waited for a trial says nothing of its speed, and is known even of trials that shared the machine."""

from pathlib import Path

import pandas as pd
from made_up import change_rows, make_run

from bench.analysis.summary import read_tables, summary_csv


def test_how_long_one_waited_for_a_trial_side_by_side_is_taken_for_no_speed(tmp_path: Path) -> None:
    texts = []
    for seconds in (10.0, 500.0):
        folder = make_run(tmp_path / f"{seconds:g}", configs=[("cnn", None, 2)], overrides={"": {"timed": False}})
        rows = pd.read_csv(folder / "trials.csv")
        change_rows(folder, {trial_id: {"wall_seconds": seconds} for trial_id in rows["trial_id"]})
        tables = read_tables(folder)
        assert set(tables.trials["wall_seconds"]) == {seconds}
        texts.append(summary_csv(tables.summary))
    assert texts[0] == texts[1]
