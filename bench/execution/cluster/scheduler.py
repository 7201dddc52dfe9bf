"""A shift: the trials of a sweep on the nodes of a cluster, each on a place of its own, until all have a result."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.errors import StoreError, UserError
from bench.execution.base import FolderOf, Options
from bench.execution.cluster.connection import Cluster, ClusterError, Stream, say
from bench.execution.cluster.nodes import Claim, Node, best_node
from bench.execution.cluster.transfer import digest_to_expect, pack, save_files
from bench.result import Result
from bench.trial import Trial


# A job: a trial on its way through a cluster, from place to place until it has a result.
@dataclass
class Job:
    """A trial on its way.

    Attributes:
        started: when its task began, seconds of a monotonic clock; None while it waits for its place.
        parcels: its data, where the node had asked for them.
        losses: how each attempt ended that gave no result.
    """

    trial: Trial
    digest: str | None
    node: Node | None = None
    claim: Claim | None = None
    sent: float = 0.0
    started: float | None = None
    started_at: str | None = None
    parcels: list[Any] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def ended(self, status: str, error: str, trace: str | None = None) -> Result:
        row = Result(**self.trial.row(), status=status, error=error, started_at=self.started_at)
        row.node, row.trace = self.node.name if self.node else None, trace
        return row


MOST_LOSSES = 3  # of one trial, with its node or its worker; then it is to blame
MOST_WAITING = 1_000  # trials looked over, while a node stands idle, for one that fits it
PATIENCE_SECONDS = 300.0  # for a node that fits, while no trial runs
OVERDUE_SECONDS = 900.0  # above a trial's limit: to get its data there, and its files back
FETCH_SECONDS = 600.0  # for one message, which may hold weights
PENDING_SECONDS = 10.0  # a place that somebody else's task has is left for another one that is free
TICK_SECONDS = 1.0


class Shift:
    """Raises: ClusterError, from `results`: the head is gone, or no node that fits has come for too long."""

    def __init__(self, cluster: Cluster, options: Options, trials: Iterable[Trial], folder_of: FolderOf) -> None:
        self.cluster, self.ray, self.options, self.folder_of = cluster, cluster.ray, options, folder_of
        self._source = iter(trials)
        self._drained = False
        self._waiting: deque[Job] = deque()
        self._running: dict[Stream, Job] = {}
        self._parcels: dict[str, Any] = {}  # checksum or name of a dataset -> reference
        self._idle_since: float | None = None
        self._said = False
        budget = options.budget_seconds
        self._deadline = math.inf if budget is None else time.monotonic() + budget

    def results(self) -> Iterator[Result]:
        """As they come; when all trials have one, it ends."""
        while True:
            self.cluster.refresh()
            self._fill()
            if self._running:
                self._idle_since, self._said = None, False
                heard, _ = self.ray.wait(list(self._running), timeout=TICK_SECONDS)
                more, _ = self.ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
                for stream in dict.fromkeys([*heard, *more]):
                    if (result := self._hear(stream)) is not None:
                        yield result
                yield from self._overdue()
            elif self._waiting or not self._drained:
                self._be_patient()
            else:
                return

    def stop(self) -> None:
        """End what runs: it has no result, and runs again when the sweep is resumed."""
        for stream in list(self._running):
            self._release(stream, cancel=True)

    def _fill(self) -> None:
        """Start what fits: first those that wait, each kind of trial being tried once, then new ones."""
        if time.monotonic() >= self._deadline:
            self._waiting = deque(job for job in self._waiting if job.node)  # those that had begun go on
            self._drained = next(self._source, None) is None  # the sweep notes whom it leaves out
        hopeless: set[tuple[str, int, bool]] = set()
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            kind = _kind(job.trial)
            if kind in hopeless or not self._start(job):
                hopeless.add(kind)
                self._waiting.append(job)
        while not self._drained and len(self._waiting) < MOST_WAITING and self._any_idle():
            trial = next(self._source, None)
            if trial is None:
                self._drained = True
                return
            job = Job(trial, digest_to_expect(trial.data))
            if not self._start(job):
                self._waiting.append(job)

    def _any_idle(self) -> bool:
        """Whether a node has room for something; its processors, or its cards, aren't all taken."""
        if len(self._running) >= (self.options.jobs or len(self._running) + 1):
            return False
        nodes = [node for node in self.cluster.nodes.values() if node.devices and not node.doubted]
        return any(
            not node.taken
            or (
                sum(claim.cpus for claim in node.taken) + 1 <= node.cpus
                and sum(claim.cards for claim in node.taken) < max(1, node.cards)
            )
            for node in nodes
        )

    def _start(self, job: Job) -> bool:
        if len(self._running) >= (self.options.jobs or len(self._running) + 1):
            return False
        found = best_node(job.trial, list(self.cluster.nodes.values()))
        if found:
            self._send(job, *found)
        return found is not None

    def _send(self, job: Job, node: Node, claim: Claim) -> None:
        job.node, job.claim, job.sent, job.started = node, claim, time.monotonic(), None
        arguments = {
            "trial": job.trial.model_dump(),
            "trial_id": job.trial.trial_id,
            "node": node.name,
            "timeout_seconds": self.options.timeout_seconds,
            "digest": job.digest,
            "parcels": job.parcels,
            "num_cards": node.cards,
        }
        self._running[self.cluster.start(node, claim, "run", arguments)] = job
        node.taken.append(claim)

    def _release(self, stream: Stream, cancel: bool = False) -> Job:
        """Its place is free; with `cancel`, whatever it does there ends."""
        job = self._running.pop(stream)
        assert job.node is not None
        assert job.claim is not None
        job.node.taken.remove(job.claim)
        if cancel:
            try:
                self.ray.cancel(stream, force=True)
            except (self.ray.exceptions.RayError, ValueError, TypeError) as error:
                say(f"warning: {job.trial.trial_id} on {job.node.name} couldn't be called off ({error})")
        return job

    def _hear(self, stream: Stream) -> Result | None:
        """A task's next message; whatever Ray raises in its place is a loss, or the trial's own end."""
        errors = self.ray.exceptions
        job = self._running[stream]
        assert job.node is not None
        try:
            message = self.ray.get(next(stream), timeout=FETCH_SECONDS)
        except errors.OutOfMemoryError:
            self._release(stream)
            return job.ended("oom", f"node {job.node.name}: ended by Ray's memory monitor, the node's memory ran out")
        except errors.RayTaskError as error:
            self._release(stream)
            why = str(error).strip().splitlines()
            return job.ended("failed", f"node {job.node.name}: {why[-1] if why else error!r}", trace=str(error))
        except errors.GetTimeoutError:
            return self._lose(stream, f"its result didn't come within {FETCH_SECONDS:.0f} s", cancel=True)
        except (errors.NodeDiedError, errors.TaskUnschedulableError):
            self.cluster.lose(job.node)
            return self._lose(stream, f"node {job.node.name} died")
        except (errors.RayError, StopIteration) as error:
            self.cluster.doubt(job.node)
            return self._lose(stream, f"node {job.node.name}: {type(error).__name__}")
        return self._take(stream, job, message)

    def _take(self, stream: Stream, job: Job, message: dict[str, Any]) -> Result | None:
        if "started" in message:
            job.started = time.monotonic()
            job.started_at = datetime.now(UTC).isoformat(timespec="seconds")
            return None
        self._release(stream)
        try:
            if "needs" in message:
                return self._give_data(job)
            if "refused" in message:
                return job.ended("failed", str(message["refused"]))
            result = Result(**message["result"])
            if result.trial_id != job.trial.trial_id:
                return job.ended("failed", f"the node sent the result of {result.trial_id}")
            folder = self.folder_of(job.trial)
            if folder is not None and message["files"]:
                save_files(folder, message["files"])
            return result
        except StoreError:
            raise  # the run's folder takes no more: that is the sweep's end, not the trial's
        except UserError as error:
            return job.ended("failed", str(error))

    def _give_data(self, job: Job) -> Result | None:
        """Send a node what it lacks, once for all nodes into Ray's object store."""
        assert job.node is not None
        assert job.claim is not None
        if job.parcels:
            return job.ended("failed", f"node {job.node.name} has its data, and still asks for them")
        key = job.trial.data.checksum if job.trial.data else job.trial.dataset
        if key not in self._parcels:
            self._parcels[key] = self.ray.put(pack(job.trial, self.options.data_dir))
        job.parcels = [self._parcels[key]]
        self._send(job, job.node, job.claim)
        return None

    def _lose(self, stream: Stream, why: str, cancel: bool = False) -> Result | None:
        """Let it run again, before all others; a trial that is lost time after time may be the reason itself."""
        job = self._release(stream, cancel)
        job.losses.append(why)
        if len(job.losses) >= MOST_LOSSES:
            return job.ended("failed", f"lost {len(job.losses)} times: {'; '.join(job.losses)}")
        say(f"warning: {job.trial.label} seed {job.trial.seed} was lost ({why}); it runs again")
        job.parcels = []
        self._waiting.appendleft(job)
        return None

    def _overdue(self) -> Iterator[Result]:
        """Tasks that say nothing long after their time; and those whose place others have, while another is free."""
        now, limit = time.monotonic(), self.options.timeout_seconds
        for stream, job in list(self._running.items()):
            if job.started is not None and limit is not None and now - job.started > limit + OVERDUE_SECONDS:
                if (result := self._lose(stream, "it was silent long after its time", cancel=True)) is not None:
                    yield result
            elif job.started is None and now - job.sent > PENDING_SECONDS:
                nodes = [node for node in self.cluster.nodes.values() if node is not job.node]
                if best_node(job.trial, nodes):
                    self._waiting.appendleft(self._release(stream, cancel=True))

    def _be_patient(self) -> None:
        """Nothing runs and nothing fits: wait for a node, for some time."""
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        idle = now - self._idle_since
        devices = dict.fromkeys(job.trial.device for job in self._waiting)
        left = f"the trials left ({', '.join(devices)})" if devices else "a trial"
        if idle > PENDING_SECONDS and not self._said and not self.cluster.asks:
            self._said = True
            say(f"no node of the cluster can run {left} now: waiting up to {PATIENCE_SECONDS:.0f} s for one")
        if idle > PATIENCE_SECONDS:
            raise ClusterError(
                f"no node of the cluster that could run {left} came within {PATIENCE_SECONDS:.0f} s; what had finished "
                "is kept: --resume the run when there is one"
            )
        time.sleep(TICK_SECONDS)


def _kind(trial: Trial) -> tuple[str, int, bool]:
    """What decides where a trial may run, nearly: two of a kind differ in their numeric mode at most."""
    return trial.device, trial.world_size, trial.timed
