"""Several processes share the work and find what one finds."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from btoks.evaluation import encoding, evaluate, processes
from btoks.evaluation.mmeb.registry import select
from btoks.evaluation.mmeb.tasks import tasks
from evaluation import mmeb_folder
from items import attached

_CHUNK = 3
ROWS = [*select(task="V-MR"), *select(dataset="ViDoRe_arxivqa")]


def run(data: Path, out: Path) -> None:
    """Evaluate as one of the processes that the environment speaks of, and note what was done."""
    counted: list[int] = []
    with processes.joined():
        found = tasks(ROWS, data=data, any_counts=True)
        step = lambda count, cached: counted.append(count)  # noqa: E731
        report = evaluate(attached("qwen3_vl"), found, cache=out / "cache", out=out, step=step)
        said = [report.scores(), sum(counted), processes.count()]
        (out / f"rank{processes.rank()}.json").write_text(json.dumps(said))


def said(out: Path, rank: int) -> list[Any]:
    return json.loads((out / f"rank{rank}.json").read_text())


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def torchrun(environment: dict[str, str], data: Path, out: Path) -> None:
    """A process as torchrun starts it."""
    os.environ.update(environment)
    encoding.CHUNK = _CHUNK
    run(data, out)


def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK", _CHUNK)
    data, one, two = mmeb_folder.write(tmp_path / "data", ROWS), tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    # A fork would inherit locks that other threads hold, such as those of torch's own.
    new = multiprocessing.get_context("spawn")
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    started = [new.Process(target=torchrun, args=(rank, data, two)) for rank in ranks]
    for each in started:
        each.start()
    run(data, one)
    for each in started:
        each.join(100)
    assert [each.exitcode for each in started] == [0, 0]
    (scores, count, _), (first, mine, size), (second, theirs, _) = said(one, 0), said(two, 0), said(two, 1)
    assert first == second == scores
    assert (size, mine + theirs) == (2, count)
    assert min(mine, theirs) > 0
    for file in one.glob("*_pred.jsonl"):
        pairs = zip(*([json.loads(line) for line in (home / file.name).open()] for home in (one, two)), strict=True)
        for line, other in pairs:
            assert line["ranking"] == other["ranking"]
            assert line["scores"] == pytest.approx(other["scores"], abs=1e-6)
