"""A stand-in for the process that talks to a tracking server: it keeps what it is told, and fails on request.

`uri` is a file: a JSON line for each message that arrived. Beside it, `<uri>.state` may hold "dead", "hangs" or
"complains".
"""

import json
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def serve(connection: Connection, uri: str) -> None:
    """Instead of bench.execution.trackers.mlflow_client.serve."""
    path = Path(uri)
    state = path.with_name(f"{path.name}.state")
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        behaves = state.read_text() if state.exists() else ""
        if behaves == "dead":
            os._exit(1)
        if behaves == "hangs":
            time.sleep(60)
        if behaves != "complains":
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(message) + "\n")
        connection.send("Oops: the server is full" if behaves == "complains" else None)


def messages(path: Path, task: str) -> list[dict[str, Any]]:
    """Those of a kind that arrived, in their order."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [message for message in map(json.loads, lines) if message["task"] == task]
