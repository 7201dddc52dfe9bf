"""The neighbours that the gate's proof is measured beside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gate_noise
import pytest
from gate_noise import NOISES, noise

from bench.errors import UserError

FOLDER = Path(gate_noise.__file__).parent


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    small = gate_noise.STREAM.replace(str(gate_noise.STREAM_BYTES), str(1024**2))
    assert small != gate_noise.STREAM
    monkeypatch.setitem(NOISES, "stream", small)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and waits to be reaped doesn't."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("name", [name for name, code in NOISES.items() if code])
def test_a_neighbour_is_there_within_the_block_and_gone_after_it(name: str) -> None:
    with noise(name) as process:
        assert process is not None
        assert alive(process)
    assert not alive(process)


def test_a_neighbour_goes_when_the_block_fails() -> None:
    with pytest.raises(RuntimeError), noise("hog") as process:
        raise RuntimeError
    assert process is not None
    assert not alive(process)


def test_quiet_starts_nothing() -> None:
    with noise("quiet") as process:
        assert process is None


def test_a_neighbour_dies_with_a_parent_that_is_killed() -> None:
    code = f"import sys, time; sys.path.insert(0, {str(FOLDER)!r}); from gate_noise import noise\n"
    code += "with noise('bursts') as process: print(process, flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=FOLDER.parents[1])
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 300
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    gone = not alive(child)
    if not gone:
        os.kill(child, signal.SIGKILL)
    assert gone


def test_an_unknown_neighbour_is_a_plain_message() -> None:
    with pytest.raises(UserError, match="there is no regime 'hogs'; did you mean 'hog'"), noise("hogs"):
        pass


def test_a_neighbour_that_cannot_come_up_is_a_plain_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOISES, "stream", "raise SystemExit")
    with pytest.raises(UserError, match="'stream' ended before it began"), noise("stream"):
        pass
