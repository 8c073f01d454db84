"""A library made by Ray's workers, one of them killed at work, is the one that this process would have made."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from btoks.errors import BtoksError
from btoks.library import Library, distributed
from command import run
from items import picture
from library.stored import same, write
from media import samples

if not (importlib.util.find_spec("ray") and importlib.util.find_spec("lance")):
    pytest.skip("ray or pylance is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two processors; the workers find the tests' own modules where this process does."""
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by itself: beside other tests the workers would hardly run
        ray.init(num_cpus=2, object_store_memory=100 << 20, **quiet)
    yield
    ray.shutdown()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files of every kind, the same contents in several of them, and a bad one."""
    folder = tmp_path / "files"
    for place in range(20):
        write(folder, f"notes/{place:02}.txt", f"note {place} about foxes and rivers")
    write(folder, "photo.png", samples.image_bytes(picture(3), "PNG"))
    write(folder, "paper.pdf", samples.pdf())
    write(folder, "broken.png", b"\x89PNG\r\n\x1a\n and no more")
    write(folder, "again.txt", "note 3 about foxes and rivers")
    for name in ("one", "other"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr("twice.txt", "a text in both archives")
            archive.writestr("second.txt", "a text in both archives")
            archive.writestr(f"{name}.txt", f"a text in archive {name}")
    rows = [{"text": "rated", "stars": 3}, {"text": "scored", "score_2": 0.5}, {"text": "odd", "stars": "many"}]
    write(folder, "rows.jsonl", "\n".join(map(json.dumps, rows)))
    return folder


def _workers() -> list[psutil.Process]:
    """The processes that hold a model."""
    found = []
    for each in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in " ".join(each.cmdline()):
                found.append(each)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(600)  # processes start slowly on a busy machine
def test_a_killed_worker_changes_nothing(
    cluster: None, files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_FILES", 4)
    killed = []

    def kill(report: Any) -> None:
        if report.embedded and not killed:
            for worker in _workers():
                worker.send_signal(signal.SIGKILL)
                killed.append(worker.pid)

    there, alone = (Library.create(tmp_path / name, model=model) for name in ("ray", "alone"))
    report, expected = there.add(files, engine="ray", progress=kill), alone.add(files)
    assert killed
    assert (report.files, report.done, report.reused) == (expected.files, expected.done, expected.reused)
    assert report.embedded == expected.embedded
    assert sorted(map(str, report.errors)) == sorted(map(str, expected.errors))
    same(there, alone)
    assert [each.rows for each in there.history()] == [len(same_ids(alone))]
    added = [each["operation"] for each in _transactions(there) if each["operation"] == "Append"]
    assert len(added) == 1, "one commit joins all fragments"
    _later(there, alone, files)


def same_ids(library: Library) -> set[str]:
    return {row["id"] for row in library._store.get("id IS NOT NULL", ["id"])}


def _transactions(library: Library) -> list[dict[str, str]]:
    import lance

    data = lance.dataset(str(library.path / "items.lance"))
    found = (data.read_transaction(each["version"]) for each in data.versions())
    return [{"operation": type(each.operation).__name__} for each in found if each is not None]


def _later(there: Library, alone: Library, files: Path) -> None:
    """What is known costs nothing, and what is new is added to it."""
    write(files, "new.txt", "something new")
    shutil.move(files / "notes/05.txt", files / "moved.txt")
    (files / "notes/06.txt").unlink()
    for library, engine in ((there, "ray"), (alone, "local")):
        report = library.add(files, prune=True, engine=engine)  # type: ignore[arg-type]
        assert (report.embedded, report.removed) == (1, 1)
    same(there, alone)


def test_what_its_workers_do_not_make_is_refused(tmp_path: Path, model: Path, files: Path) -> None:
    remembering = Library.create(tmp_path / "remembering", model=model, keep_memory=True)
    with pytest.raises(BtoksError, match="it keeps memories"):
        remembering.add(files, engine="ray")


def test_a_model_that_is_gone_is_an_error_of_one_line(
    cluster: None, tmp_path: Path, model: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "model")
    assert run("index", files / "again.txt", "--library", tmp_path / "mine", "--model", tmp_path / "model").status == 0
    shutil.rmtree(tmp_path / "model")
    failed = run("index", files, "--library", tmp_path / "mine", "--engine", "ray")
    assert failed.status == 1
    assert str(tmp_path / "model") in failed.err.splitlines()[-1]
