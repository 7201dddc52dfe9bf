"""Where trials run: the table of executors, and the devices that each can use."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.errors import UserError, nearest
from bench.execution.base import Executor, Options
from bench.execution.local import InProcess, Subprocess

if TYPE_CHECKING:
    from bench.config.inventory import Inventory


def _on_a_cluster(options: Options) -> Executor:
    from bench.execution.cluster.executor import RayExecutor  # ray is an extra, and takes a second to load

    return RayExecutor(options)


EXECUTORS: dict[str, Callable[[Options], Executor]] = {
    "subprocess": Subprocess,
    "in-process": InProcess,
    "ray": _on_a_cluster,
}


def inventory_of(executor: str, address: str | None = None) -> "Inventory":
    """The devices of this machine, or of the cluster at an address.

    Raises: UserError: no such executor, or nothing at the address.
    """
    if executor not in EXECUTORS:
        raise UserError(f"unknown executor '{executor}'; {nearest(executor, EXECUTORS)}")
    if executor == "ray":
        from bench.execution.cluster.executor import connect

        return connect(address)
    if address:
        raise UserError(f"--address is for --executor ray, not for '{executor}'")
    from bench.config.inventory import HERE  # torch loads now, beside the fork server

    return HERE
