"""A stand-in for an MLflow tracking server on loopback: the few REST calls that a tracker makes, kept in memory.

`state` makes it fail: "dead" cuts each connection, "hangs" doesn't answer, "refuses" answers with 401.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow/"


class MadeUpServer(ThreadingHTTPServer):
    """Attributes:
    runs: run_id -> what it was told of a run: "name", "status", "tags", "params", "metrics".
    requests: how many have arrived.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state, self.requests = "", 0
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.stopped = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://ann:s3cret@127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.stopped.set()
        self.shutdown()
        self.server_close()

    def answer(self, call: str, told: dict[str, Any]) -> dict[str, Any]:
        if call == "experiments/get-by-name":
            name = told["experiment_name"]
            return {"experiment": self._experiment(name)} if name in self.experiments else {}
        if call == "experiments/create":
            self.experiments[told["name"]] = str(len(self.experiments) + 1)
            return {"experiment_id": self.experiments[told["name"]]}
        if call == "runs/create":
            tags = {tag["key"]: tag["value"] for tag in told["tags"]}
            run = {"name": told["run_name"], "status": "RUNNING", "tags": tags, "params": {}, "metrics": []}
            self.runs[run_id := f"{len(self.runs):032x}"] = run
            return {"run": self._run(run_id)}
        if call == "runs/search":  # of the form: tags.`KEY` = 'VALUE'
            _, key, _, value, _ = told["filter"].replace("'", "`").split("`")
            found = [run_id for run_id, run in self.runs.items() if run["tags"].get(key) == value]
            return {"runs": [self._run(run_id) for run_id in found]}
        run_id = told["run_id"]
        if call == "runs/log-batch":
            self.runs[run_id]["params"] |= {param["key"]: param["value"] for param in told.get("params", [])}
            self.runs[run_id]["metrics"] += told.get("metrics", [])
        elif call == "runs/update":
            self.runs[run_id]["status"] = told["status"]
        else:
            assert call == "runs/get", call
        return {"run": self._run(run_id), "run_info": self._run(run_id)["info"]}

    def _experiment(self, name: str) -> dict[str, Any]:
        return {"experiment_id": self.experiments[name], "name": name, "lifecycle_stage": "active"}

    def _run(self, run_id: str) -> dict[str, Any]:
        info = {"run_id": run_id, "run_uuid": run_id, "experiment_id": "1", "status": self.runs[run_id]["status"]}
        return {"info": info | {"artifact_uri": "/srv/of/its/own", "lifecycle_stage": "active"}, "data": {}}


class _Handler(BaseHTTPRequestHandler):
    server: MadeUpServer

    def do_GET(self) -> None:
        self.reply({key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, told: dict[str, Any]) -> None:
        self.server.requests += 1
        if self.server.state == "hangs":
            self.server.stopped.wait(600)
        if self.server.state in ("hangs", "dead"):
            return
        if self.server.state == "refuses":
            status, answer = 401, {"error_code": "UNAUTHENTICATED", "message": "no such user"}
        elif not self.path.startswith(API):  # asked for what newer servers can do
            status, answer = 404, {}
        elif answer := self.server.answer(urlsplit(self.path).path.removeprefix(API), told):
            status = 200
        else:
            status, answer = 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such one"}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: Any) -> None:
        pass
