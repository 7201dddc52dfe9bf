"""Trials on the nodes of a made-up cluster: crashes, losses, the budget's end, no nodes left."""

import time
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_cluster import node, trial

from bench.execution.base import Options
from bench.execution.cluster.executor import RayExecutor
from bench.execution.cluster.nodes import Claim, Cluster, Node
from bench.result import Result
from bench.trial import Trial


class CrashError(Exception):
    pass


class MadeUpTask:
    """What it has to say is there at once."""

    def __init__(self, message: Any) -> None:
        self.message = message


class MadeUpRay:
    others = ("OutOfMemoryError", "RayTaskError", "GetTimeoutError", "TaskUnschedulableError")
    exceptions = SimpleNamespace(
        **dict.fromkeys(others, ZeroDivisionError), NodeDiedError=EOFError, RayError=CrashError
    )

    def wait(self, tasks: list[Any], num_returns: int = 1, timeout: float = 0.0) -> tuple[list[Any], list[Any]]:
        return tasks, []

    def get(self, task: MadeUpTask, timeout: float) -> Any:
        if isinstance(task.message, Exception):
            raise task.message
        return task.message

    def cancel(self, task: MadeUpTask, force: bool) -> None:
        pass


class MadeUpCluster(Cluster):
    """Nodes on which a trial ends well, but once on each of `crashes`, where its worker crashes."""

    def __init__(self, nodes: list[Node], crashes: Sequence[str] = ()) -> None:
        self.ray, self.nodes, self.crashes = MadeUpRay(), {node.node_id: node for node in nodes}, list(crashes)
        self._asked, self._dead, self._next_look = {}, set(), float("inf")
        self.went: list[tuple[str, str]] = []  # (trial, node)
        self.silent = 2  # looks until a node that may be dead answers

    def start(self, node: Node, claim: Claim, *arguments: Any) -> MadeUpTask:
        trial: Trial = arguments[0]
        self.went.append((trial.trial_id, node.name))
        if node.name in self.crashes:
            self.crashes.remove(node.name)
            return MadeUpTask(CrashError())
        return MadeUpTask({"result": trial.row() | {"status": "ok", "node": node.name}, "files": {}})

    def doubt(self, node: Node) -> None:
        node.maybe_dead = True

    def refresh(self) -> None:
        for each in self.nodes.values():
            if each.maybe_dead:
                self.silent -= 1
                each.maybe_dead = self.silent > 0


def results(cluster: Cluster, trials: Iterable[Trial], monkeypatch: pytest.MonkeyPatch) -> Iterator[Result]:
    return executor(cluster, monkeypatch).run_together(trials, lambda trial: None)


def executor(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> RayExecutor:
    monkeypatch.setattr("bench.execution.cluster.executor.TICK_SECONDS", 0.0)
    monkeypatch.setattr("bench.execution.cluster.executor._join", lambda address: cluster)
    return RayExecutor(Options())


def test_a_node_where_something_crashed_gets_no_trial_until_it_has_given_a_sign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = MadeUpCluster([node("p")], crashes="p")
    (result,) = results(cluster, [trial()], monkeypatch)
    assert result.status == "ok"
    assert len(cluster.went) == 2
    assert cluster.silent == 0
    assert "was lost (node p: CrashError); it runs again" in capsys.readouterr().err


def test_a_trial_that_crashes_its_worker_time_after_time_is_a_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = MadeUpCluster([node("p"), node("q")], crashes=["p", "q", "p"])
    (result,) = results(cluster, [trial()], monkeypatch)
    assert result.status == "failed"
    assert str(result.error).startswith("lost 3 times: node p: CrashError; node q: CrashError; node p")
    assert [name for _, name in cluster.went] == ["p", "q", "p"]


def test_a_trial_taken_ahead_does_not_begin_after_the_budgets_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [trial(seed, device="cuda") for seed in range(3)]
    cluster = MadeUpCluster([node("g", 1, cuda=["A100"]), node("p")])
    working = executor(cluster, monkeypatch)
    found = working.run_together([*cards, trial()], lambda trial: None)
    begun = [next(found).trial_id]
    assert len(cluster.went) == 2  # the second and the third wait for the card
    working._deadline = time.monotonic()
    begun += [result.trial_id for result in found]
    assert sorted(str(name) for name in begun) == sorted([cards[0].trial_id, trial().trial_id])


def test_a_sweep_whose_nodes_are_all_gone_ends_as_an_interrupted_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.execution.cluster.executor.PATIENCE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        list(results(MadeUpCluster([]), [trial()], monkeypatch))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no node of the cluster that could run a trial came within 0 s; what had finished")
