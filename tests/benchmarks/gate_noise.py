"""Noise for proofs of what is timed: processes that take from the machine what neighbours on a shared runner take.

    with noise("hog"):
        ...  # measure

`quiet` starts nothing. The others start one real process, wait until it is at work, and kill it on leaving. It also
ends by itself when the process that started it dies, however that dies.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import UserError, nearest

STREAM_BYTES = 256 * 1024**2  # far more than a core's share of any cache; it is copied into as much again

# Standard input is a pipe that only the parent holds open for writing: its end is the parent's end.
PREAMBLE = """
import os, sys, threading
def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
def ready():
    print("ready", flush=True)
"""
HOG = """
ready()
while True:
    pass
"""
BURSTS = """
import random, time
ready()
while True:
    end = time.monotonic() + random.uniform(0.2, 2.0)
    while time.monotonic() < end:
        pass
    time.sleep(random.uniform(0.2, 2.0))
"""
STREAM = f"""
source = bytearray({STREAM_BYTES})
target = memoryview(bytearray({STREAM_BYTES}))
ready()
while True:
    target[:] = source
"""
NEIGHBOURS = """
import random, time
for _ in range(os.cpu_count() or 1):
    if not os.fork():
        # not `sys.stdin`, whose lock the thread of the process that forked has
        threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
        break
else:
    ready()
    os.wait()
table = bytearray(8 * 1024**2)
while True:
    end = time.monotonic() + random.uniform(0.02, 0.5)
    while time.monotonic() < end:
        table[:] = bytes(table)
    time.sleep(random.uniform(0.02, 0.5))
"""
NOISES: dict[str, str | None] = {
    "quiet": None, "hog": HOG, "bursts": BURSTS, "stream": STREAM, "neighbours": NEIGHBOURS
}  # fmt: skip


@contextmanager
def noise(name: str) -> Iterator[int | None]:
    """Run the body beside the regime's process; gives its id, or None for "quiet".

    Raises:
        UserError: no such regime, or its process didn't come up (too little memory for "stream").
    """
    if name not in NOISES:
        raise UserError(f"noise: there is no regime '{name}'; {nearest(name, NOISES)}")
    code = NOISES[name]
    if code is None:
        yield None
        return
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PREAMBLE + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline().strip() != b"ready":
            raise UserError(f"noise: the process of '{name}' ended before it began; is there memory enough?")
        yield child.pid
    finally:
        child.kill()
        child.communicate()  # waits, and closes the pipes
