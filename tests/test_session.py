"""What a session does between the plan and the sweep."""

import json
from pathlib import Path

from bench.config.plan import load_plan
from bench.config.suite_file import read_suite
from bench.session import longest_first


def test_of_each_seed_the_longest_trials_begin_first_and_those_that_run_alone_come_last_as_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"dataset": "digits", "models": [{"model": "cnn", "depth": [1, 2, 3], "width": 4}]}))
    trials = load_plan(read_suite(path, ["device=cpu", "seeds=2", "world_size=[2, 1]"])).trials
    depth = {trial.trial_id: trial.settings["depth"] for trial in trials}
    ordered = longest_first(trials, {trial_id: float(blocks % 3) for trial_id, blocks in depth.items()})
    assert sorted(ordered, key=str) == sorted(trials, key=str)
    for seed in (0, 1):
        own = [trial for trial in ordered[6 * seed : 6 * seed + 6] if trial.seed == seed]
        assert [(trial.timed, depth[trial.trial_id]) for trial in own] == [
            *((False, blocks) for blocks in (2, 1, 3)),
            *((True, depth[trial.trial_id]) for trial in trials if trial.timed and trial.seed == seed),
        ]
