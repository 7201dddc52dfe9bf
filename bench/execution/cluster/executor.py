"""Cluster: trials of a sweep as tasks of Ray, each on a machine, or a card, that it has to itself."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bench.execution.base import FolderOf, Options
from bench.execution.cluster.connection import Cluster, ClusterError, say
from bench.execution.cluster.nodes import ClusterInventory
from bench.execution.cluster.scheduler import Shift
from bench.result import Result
from bench.trial import Trial

if TYPE_CHECKING:
    from bench.training.run import Report

_joined: list[Cluster] = []  # a process is in one cluster at a time; plan and sweep share it


def connect(address: str | None) -> ClusterInventory:
    """The devices of the cluster at HOST:PORT, or of one of this machine alone.

    Raises:
        ClusterError: it can't be joined, or none of its nodes can run a trial.
    """
    cluster = _join(address)
    nodes = [node for node in cluster.meet() if node.devices]
    if not nodes:
        raise ClusterError("none of the cluster's nodes can run a trial; see the warnings above, if any")
    versions = {node.torch for node in nodes} | {torch.__version__}
    if len(versions) > 1:
        say(
            f"warning: driver and nodes have different versions of torch ({', '.join(sorted(versions))}): compare only "
            "rows of one torch_version"
        )
    return ClusterInventory(nodes)


class RayExecutor:
    """Every trial in a process of its own on a node that it has to itself, or on cards that it has to itself."""

    exclusive = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self._cluster = _join(options.address)

    def run(self, trial: Trial, folder: Path | None, report: "Report") -> Result:
        (result,) = self.run_together([trial], lambda trial: folder)
        return result

    def run_together(self, trials: Iterable[Trial], folder_of: FolderOf) -> Iterator[Result]:
        """Results as they come; a trial is taken from `trials` when a node might have a place for it.

        Raises:
            KeyboardInterrupt: the cluster is gone, which a line has said; what had finished has been given. For the
                sweep that is what a signal is: its end from outside, after which what there is gets its report.
        """
        shift = Shift(self._cluster, self.options, trials, folder_of)
        try:
            with closing(shift.results()) as results:  # type: ignore[type-var]
                yield from results
        except ClusterError as error:
            say(f"error: {error}")
            raise KeyboardInterrupt from error
        finally:
            shift.stop()

    def close(self) -> None:
        _joined.clear()
        self._cluster.close()


def _join(address: str | None) -> Cluster:
    if _joined and _joined[0].asked != address:
        _joined.pop().close()
    if not _joined:
        _joined.append(Cluster(address))
    return _joined[0]
