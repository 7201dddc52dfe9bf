"""Interrupts: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP; heard at once, but never within an append."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP")

_held = 0  # blocks that nothing may interrupt, one within the other
_listening = False
_asked = False


@contextmanager
def listening() -> Iterator[None]:
    """Each signal that asks for the end becomes a KeyboardInterrupt in the main thread, here or at the end of `held`.

    A signal that is ignored stays so: that is how `nohup` keeps a program from its terminal's end.
    """
    global _listening, _asked
    if _listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ENDINGS if hasattr(signal, name)]
    usual = {number: signal.getsignal(number) for number in numbers}
    usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}
    _listening, _asked = True, False
    try:
        for number in usual:
            signal.signal(number, _hear)
        yield
    finally:
        _listening = False
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Finish this first. Raises: KeyboardInterrupt: at the end, if it was asked for on the way."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    check()


def check() -> None:
    """Raises: KeyboardInterrupt: it was asked for, and nobody has taken it: within `held`, or where it was dropped."""
    if _asked and not _held:
        taken()
        raise KeyboardInterrupt


def taken() -> None:
    """Somebody has caught it and acts on it."""
    global _asked
    _asked = False


def _hear(number: int, frame: object) -> None:
    global _asked
    _asked = True
    if not _held:
        raise KeyboardInterrupt  # this may land where exceptions are dropped, such as in a callback; see `check`
