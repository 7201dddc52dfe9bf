"""Trials of a sweep as tasks of Ray, each on a node, or on cards, that it has to itself."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import torch

from bench.errors import StoreError, UserError
from bench.execution.base import Executor, FolderOf, Options
from bench.execution.cluster.connection import ClusterError, say
from bench.execution.cluster.nodes import Claim, Cluster, ClusterInventory, Node, best_node
from bench.execution.cluster.transfer import pack, save_files, stream_digest_of
from bench.result import Result
from bench.trial import Trial

MOST_LOSSES = 3  # of one trial, with its node or its worker; then it is to blame
MOST_WAITING = 1_000  # trials looked over, while a node stands idle, for one that fits it
PATIENCE_SECONDS = 300.0  # for a node that fits, while no trial runs
QUIET_SECONDS = 10.0  # of such waiting, before a line says so
FETCH_SECONDS = 600.0  # for a result, whose files may be weights
TICK_SECONDS = 1.0


def connect(address: str | None) -> ClusterInventory:
    """The devices of the cluster at HOST:PORT, or of one of this machine alone.

    Raises: ClusterError: it can't be joined, or none of its nodes can run a trial.
    """
    nodes = [node for node in _join(address).meet() if node.devices]
    if not nodes:
        raise ClusterError("none of the cluster's nodes can run a trial; see the warnings above, if any")
    versions = {node.torch for node in nodes} | {torch.__version__}
    if len(versions) > 1:
        say(
            f"warning: driver and nodes have different versions of torch ({', '.join(sorted(versions))}): compare only "
            "rows of one torch_version"
        )
    return ClusterInventory(nodes)


@cache
def _join(address: str | None) -> Cluster:
    """A process is in one cluster; plan and sweep share it."""
    return Cluster(address)


@dataclass
class Job:
    """A trial on its way, from node to node until it has a result.

    Attributes:
        stream_digest: of its files, where they are read while training.
        place: where it is, and what it takes there.
        data: a reference to its dataset, where the node had asked for it.
        losses: how each attempt ended that gave no result.
    """

    trial: Trial
    stream_digest: str | None
    place: tuple[Node, Claim] | None = None
    sent_at: str | None = None
    data: list[Any] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def ended(self, status: str, error: str, trace: str | None = None) -> Result:
        row = Result(**self.trial.row(), status=status, error=error, started_at=self.sent_at)
        row.node, row.trace = self.place[0].name if self.place else None, trace
        return row


class RayExecutor(Executor):
    """Every trial in a process of its own on a node that it has to itself, or on cards that it has to itself.

    Ray starts a task when its node has what it claims, and tells how it ended. Which node, and what is done about a
    loss, is decided here: Ray would repeat a task on the node that it is bound to, dead or not.
    """

    exclusive = True

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._cluster = _join(options.address)
        self._ray = self._cluster.ray
        self._waiting: deque[Job] = deque()
        self._running: dict[Any, Job] = {}  # reference to a task's message -> job
        self._datasets: dict[str, Any] = {}  # checksum or name -> reference
        self._idle_since: float | None = None
        self._said = False

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        """Results as they come; a trial is taken from `trials` when a node might have a place for it.

        Raises:
            KeyboardInterrupt: the cluster is gone, which a line has said; what had finished has been given. For the
                sweep that is what a signal is: its end from outside, after which what there is gets its report.
        """
        self._source, self._drained, self._folder_of = iter(trials), False, folder_of
        budget = self.options.budget_seconds
        self._deadline = math.inf if budget is None else time.monotonic() + budget
        try:
            while True:
                self._cluster.refresh()
                self._fill()
                if self._running:
                    self._idle_since, self._said = None, False
                    self._ray.wait(list(self._running), timeout=TICK_SECONDS)
                    ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
                    yield from filter(None, map(self._receive, ready))
                elif self._waiting or not self._drained:
                    self._wait_for_a_node()
                else:
                    return
        except ClusterError as error:
            say(f"error: {error}")
            raise KeyboardInterrupt from error
        finally:
            for task, job in list(self._running.items()):  # they have no result, and run again on resume
                try:
                    self._ray.cancel(task, force=True)
                except (self._ray.exceptions.RayError, ValueError, TypeError) as error:
                    say(f"warning: {job.trial.trial_id} couldn't be called off ({error})")
                self._release(task)

    def close(self) -> None:
        _join.cache_clear()
        self._cluster.close()

    def _fill(self) -> None:
        """Start what fits: first those that wait, each kind of trial being tried once, then new ones."""
        if time.monotonic() >= self._deadline:
            self._waiting = deque(job for job in self._waiting if job.place)  # those that had begun go on
            self._drained = next(self._source, None) is None  # the sweep notes whom it leaves out
        without_place: set[tuple[str, int, bool]] = set()
        for job in list(self._waiting):
            # What decides where it may run, nearly: two of a kind differ in their numeric mode at most.
            kind = job.trial.device, job.trial.world_size, job.trial.timed
            if kind not in without_place and self._start(job):
                self._waiting.remove(job)
            else:
                without_place.add(kind)
        while not self._drained and len(self._waiting) < MOST_WAITING and self._any_idle():
            trial = next(self._source, None)
            if trial is None:
                self._drained = True
                return
            job = Job(trial, stream_digest_of(trial.data))
            if not self._start(job):
                self._waiting.append(job)

    def _any_idle(self) -> bool:
        """Whether a node has room for something: for a trial on a core, or on a card."""
        nodes = [node for node in self._cluster.nodes.values() if node.devices]
        return self._may_run_more() and any(node.fits(Claim(1, cards)) for node in nodes for cards in (0, 1))

    def _may_run_more(self) -> bool:
        return self.options.jobs is None or len(self._running) < self.options.jobs

    def _start(self, job: Job) -> bool:
        """Whether there is a place for it now, where it then goes."""
        place = best_node(job.trial, self._cluster.nodes.values()) if self._may_run_more() else None
        if place:
            self._send(job, *place)
        return place is not None

    def _send(self, job: Job, node: Node, claim: Claim) -> None:
        job.place, job.sent_at = (node, claim), datetime.now(UTC).isoformat(timespec="seconds")
        limit = self.options.timeout_seconds
        self._running[self._cluster.start(node, claim, job.trial, limit, job.stream_digest, job.data)] = job
        node.taken.append(claim)

    def _release(self, task: Any) -> tuple[Job, Node, Claim]:
        """Its place is free."""
        job = self._running.pop(task)
        assert job.place is not None
        node, claim = job.place
        node.taken.remove(claim)
        return job, node, claim

    def _receive(self, task: Any) -> Result | None:
        """What a task returns, or Ray raises in its place: a result, or a reason to send the trial again."""
        job, node, claim = self._release(task)
        errors = self._ray.exceptions
        try:
            message = self._ray.get(task, timeout=FETCH_SECONDS)
        except errors.OutOfMemoryError:
            return job.ended("oom", f"node {node.name}: ended by Ray's memory monitor, the node's memory ran out")
        except errors.RayTaskError as error:
            why = str(error).strip().splitlines()
            return job.ended("failed", f"node {node.name}: {why[-1] if why else error!r}", trace=str(error))
        except errors.GetTimeoutError:
            return self._lose(job, f"its result didn't come within {FETCH_SECONDS:.0f} s")
        except (errors.NodeDiedError, errors.TaskUnschedulableError):
            self._cluster.lose(node)
            return self._lose(job, f"node {node.name} died")
        except errors.RayError as error:
            self._cluster.doubt(node)
            return self._lose(job, f"node {node.name}: {type(error).__name__}")
        try:
            if "refused" in message:
                return job.ended("failed", message["refused"])
            if "result" not in message:  # the node lacks its dataset, which is put once for all nodes into Ray's store
                if job.data:
                    return job.ended("failed", f"node {node.name} has its data, and still asks for them")
                key = job.trial.data.checksum if job.trial.data else job.trial.dataset
                if key not in self._datasets:
                    self._datasets[key] = self._ray.put(pack(job.trial, self.options.data_dir))
                job.data = [self._datasets[key]]
                self._send(job, node, claim)
                return None
            result = Result(**message["result"])
            if result.trial_id != job.trial.trial_id:
                return job.ended("failed", f"the node sent the result of {result.trial_id}")
            if message["files"] and (folder := self._folder_of(job.trial)):
                save_files(folder, message["files"])
            return result
        except StoreError:
            raise  # the run's folder takes no more: that is the sweep's end, not the trial's
        except UserError as error:
            return job.ended("failed", str(error))

    def _lose(self, job: Job, why: str) -> Result | None:
        """Let it run again, before all others; a trial that is lost time after time may be the reason itself."""
        job.losses.append(why)
        if len(job.losses) >= MOST_LOSSES:
            return job.ended("failed", f"lost {len(job.losses)} times: {'; '.join(job.losses)}")
        say(f"warning: {job.trial.label} seed {job.trial.seed} was lost ({why}); it runs again")
        job.data = []
        self._waiting.appendleft(job)
        return None

    def _wait_for_a_node(self) -> None:
        """Nothing runs and nothing fits: wait for some time."""
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        idle = now - self._idle_since
        devices = ", ".join(dict.fromkeys(job.trial.device for job in self._waiting))
        left = f"the trials left ({devices})" if devices else "a trial"
        if idle > QUIET_SECONDS and not self._said:
            self._said = True
            say(f"no node of the cluster can run {left} now: waiting up to {PATIENCE_SECONDS:.0f} s for one")
        if idle > PATIENCE_SECONDS:
            raise ClusterError(
                f"no node of the cluster that could run {left} came within {PATIENCE_SECONDS:.0f} s; what had finished "
                "is kept: --resume the run when there is one"
            )
        time.sleep(TICK_SECONDS)
