"""Which devices an executor can use."""

from typing import TYPE_CHECKING

from bench.errors import UserError, nearest
from bench.execution import EXECUTORS

if TYPE_CHECKING:
    from bench.config.inventory import Inventory


def inventory_of(executor: str, address: str | None = None) -> "Inventory":
    """Of this machine, or of the cluster at an address.

    Raises:
        UserError: no such executor, or nothing at the address.
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
