"""A library on object storage: moto's server is a process of its own, and speaks S3 as the real ones do."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.library import Library, disk, lease
from btoks.library.objects import Address, home
from command import run
from items import picture
from library.stored import contents, same, write
from media import samples

if not (importlib.util.find_spec("obstore") and importlib.util.find_spec("moto")):
    pytest.skip("obstore or moto is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.05)
        yield url
        server.kill()


@pytest.fixture
def place(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A place of the test's own."""
    given = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
    for name, value in {**given, "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    return f"s3://bucket/{request.node.name}/mine"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    write(folder, "fox.txt", "a red fox in the snow")
    write(folder, "deep/photo.png", samples.image_bytes(picture(3), "PNG"))
    write(folder, "paper.pdf", samples.pdf())
    return folder


def test_it_is_the_library_that_a_folder_would_hold(place: str, files: Path, model: Path, tmp_path: Path) -> None:
    made, local = Library.create(place, model=model), Library.create(tmp_path / "library", model=model)
    for library in (made, local):
        assert library.add(files).errors == []
    same(made, local)
    reader = Library.open(place)
    assert [hit.id for hit in reader.search("a fox", min_score=0)] == [
        hit.id for hit in local.search("a fox", min_score=0)
    ]
    (files / "fox.txt").rename(files / "moved.txt")
    (files / "paper.pdf").unlink()
    for library in (made, local):
        report = library.add(files, prune=True, force=True)
        assert (report.embedded, report.removed) == (0, 1)
    assert contents(reader) == contents(local)
    known = [(each.version, each.did, each.rows) for each in made.history()]
    assert known == [(each.version, each.did, each.rows) for each in local.history()]
    made.restore(1)
    assert len(contents(reader)) > len(contents(local))
    made.compact()
    assert made.stats()["bytes"] == Address(place).nbytes() > 0
    with pytest.raises(BtoksError, match="not empty"):
        Library.create(place, model=model)


def test_the_command_line_takes_its_address(place: str, files: Path, model: Path) -> None:
    assert "there is no library" in run("search", "a fox", "--library", place).line
    indexed = run("index", files, "--library", place, "--model", model, "--json")
    assert (indexed.status, indexed.records[0]["library"]) == (0, place)
    found = run("search", "a fox", "--library", place, "--min-score", "0", "--json")
    assert {hit["path"] for hit in found.records} == {str(path) for path in files.rglob("*.*")}
    assert run("reindex", place, "--quantize", "ivf_rq", "--json").status == 0
    assert run("library", "stats", "--library", place, "--json").records[0]["quantize"] == "ivf_rq"


def test_an_address_without_a_path_and_a_server_that_is_not_there_are_errors_of_one_line(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BtoksError, match="a bucket alone"):
        home("s3://bucket/")
    with pytest.raises(BtoksError, match="object storage refused"):
        Library.create("s3://missing/mine", model=None)


def test_a_reindex_swaps_the_pointer_while_a_reader_searches(place: str, files: Path, model: Path) -> None:
    rng = np.random.default_rng(0)
    own = Library.create(place, model=None)
    vectors_ND = rng.normal(size=(64, 8))
    own.add_vectors([f"item {row}" for row in range(64)], vectors_ND)
    reader, ended, found = Library.open(place), threading.Event(), list[str]()

    def search() -> None:
        while not ended.is_set():
            found.append(reader.search_vector(vectors_ND[7], k=1)[0].id)

    searching = threading.Thread(target=search)
    searching.start()
    try:
        before = len(found)
        own.reindex(quantize="int8")
        assert len(found) > before
    finally:
        ended.set()
        searching.join()
    assert set(found) == {"item 7"}
    assert reader.search_vector(vectors_ND[9], k=1)[0].id == "item 9"
    assert reader.stats()["bytes_per_vector"] == 8
    there = Address(place).names()
    assert {"items-1.lance", "codebooks-1.safetensors", "library.json"} <= there
    assert not {"items.lance", "next.json"} & there


_HOLDS = """
import sys, time
from btoks.library import Library, lease
lease.SECONDS = 2.0
library = Library.open(sys.argv[1])
with library._writing("hold", 10):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_waits_or_is_refused_and_takes_over_from_a_killed_one(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 2.0)
    library = Library.create(place, model=None)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", _HOLDS, place], stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"held\n"
            began = time.monotonic()
            with pytest.raises(disk.BusyError, match="another process writes to it"):
                library.add_vectors(["a"], np.eye(1, 3), wait=3)  # longer than a lease: it is renewed
            assert 3 <= time.monotonic() - began < 6
        finally:
            holder.send_signal(signal.SIGKILL)
    began = time.monotonic()
    assert library.add_vectors(["a"], np.eye(1, 3), wait=20) == 1
    assert time.monotonic() - began < 10
    began = time.monotonic()
    assert library.add_vectors(["b"], np.eye(1, 3), wait=0) == 1, "a lock that was let go is free at once"
    assert library.stats()["rows"] == 2


def test_two_threads_that_write_take_turns(place: str) -> None:
    library = Library.create(place, model=None)
    told = list[str]()

    def write_some(name: str) -> None:
        for turn in range(3):
            with disk.writing(Address(place), wait=30, waiting=told.append):
                library._store.put([_row(f"{name} {turn}")])

    writers = [threading.Thread(target=write_some, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(contents(library)) == 6
    assert all("another process writes to it; waiting" in line for line in told)


def test_a_writer_that_lost_its_lock_stops_before_it_swaps_or_commits_again(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 1.0)
    library = Library.create(place, model=None)
    lock = Address(place) / "lock"
    with pytest.raises(BtoksError, match="its lock was lost"), library._writing("late", 5):  # noqa: PT012
        lock.write(b'{"holder": "another"}')
        time.sleep(1)
        library._syncer.now_and_then()
    assert lock.read_bytes() == b'{"holder": "another"}', "what is another's is left alone"


def _row(name: str) -> dict[str, object]:
    return {"id": name, "content": name, "kind": "vector", "vector": np.ones(3, np.float32) / np.sqrt(3)}
