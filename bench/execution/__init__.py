"""Where trials run: the table of executors."""

from collections.abc import Callable

from bench.execution.base import Executor, Options
from bench.execution.local import InProcess, Subprocess


def _on_a_cluster(options: Options) -> Executor:
    from bench.execution.cluster.executor import RayExecutor  # ray is an extra, and takes a second to load

    return RayExecutor(options)


EXECUTORS: dict[str, Callable[[Options], Executor]] = {
    "subprocess": Subprocess,
    "in-process": InProcess,
    "ray": _on_a_cluster,
}
