"""An inbox: messages from a process that may be anything by now: stopped, torn off, or writing what it shouldn't."""

import json
import os
import struct
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

LARGEST_MESSAGE = 1 << 28  # bytes; a million raw blocks are a tenth of it


class Inbox:
    """Messages from a worker, read as they come and never waited for: half of one may be all that ever comes.

    Attributes:
        closed: the worker's end of it is closed.
    """

    def __init__(self, receiver: Connection) -> None:
        self.receiver = receiver
        self.closed = False
        self._bytes = bytearray()
        if os.name != "nt":
            os.set_blocking(receiver.fileno(), False)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Those that are there. Raises: ValueError: what came isn't one."""
        self._read()
        while len(self._bytes) >= 4:
            (size,) = struct.unpack_from("!i", self._bytes)  # the form of Connection.send_bytes
            if not 0 < size <= LARGEST_MESSAGE:
                raise ValueError("no size of a message")
            if len(self._bytes) < 4 + size:
                return
            text = bytes(self._bytes[4 : 4 + size])
            del self._bytes[: 4 + size]
            yield json.loads(text)

    def close(self) -> None:
        self.receiver.close()

    def _read(self) -> None:
        try:
            if os.name == "nt":
                while self.receiver.poll():
                    data = self.receiver.recv_bytes()
                    self._bytes += struct.pack("!i", len(data)) + data
                return
            while chunk := os.read(self.receiver.fileno(), 1 << 16):
                self._bytes += chunk
            self.closed = True
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.closed = True
