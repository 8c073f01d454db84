"""Does a library survive its writer's death at any moment?

    python benchmarks/kill.py [--kills 120] [--files 300] [--model btoks-mini] [--seed 0] [--json FILE]

A process indexes, prunes, compacts, builds the index of the vectors or reindexes a folder of texts, and is killed by
SIGKILL: at random moments, or as soon as a file appears that shows that it is inside a step. After every kill the
library is opened and searched in this process:
    lost       rows that were there before, and whose file still is, that are missing now
    doubled    ids that are there more than once
    half       contents of files without rows, or rows without a file
    unopened   times the library could not be opened, searched or checked
In the end the next run completes, and the library is compared with one that was never killed; after one compaction
its bytes are compared with that one's, and with the closed form (vectors, texts, names, the store's indexes).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import btoks
from btoks.library import Library

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentence_transformers import SentenceTransformer

RANDOM = 0.4  # of the kills come at any moment of a run, the others inside a step
INDEXED = 256  # rows from which the index of the vectors is built here
_SERVER = """
import os, sys
import btoks.encode, btoks.folder, btoks.methods.quantize.int8
for line in sys.stdin:
    step, library, files, model = line.rstrip("\\n").split("\\t")
    pid = os.fork()  # before the store is imported: its threads do not survive a fork
    if pid:
        os.waitpid(pid, 0)
        print("ended", flush=True)
        continue
    from pathlib import Path
    from btoks.library import Library, background, ingest
    ingest._PIECE, ingest._BATCH = 16, 8
    opened = Library.open(library)
    print(os.getpid(), flush=True)
    if step in ("index", "prune"):
        opened.add(files, prune=True, force=True)
    elif step == "compact":
        opened.compact()
    elif step == "build":
        background.build(Path(library), int(sys.argv[1]))
    else:
        opened.reindex(quantize=step.partition(" ")[2])
    print("whole", flush=True)
    os._exit(0)
"""
AIMS: dict[str, tuple[str, ...]] = {
    "index": ("items*.lance/data/*", "items*.lance/_versions/*", "files.lance/_versions/*"),
    "prune": ("items*.lance/_deletions/*", "files.lance/_deletions/*"),
    "compact": ("*.lance/data/*", "*.lance/_versions/*"),
    "build": ("items*.lance/_indices/*", "items*.lance/_indices/*/*"),
    "reindex": ("next.json", "items-*.lance/data/*", "items-*.lance/_indices/*", "codebooks-*", ".library.json*"),
}
"""What appears in the folder once a process is inside a step."""


def main() -> None:
    """Kill, check, compare; print a table, write JSON, fail if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 120), ("files", 300), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", default="btoks-mini")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        found = run(Path(home), options)
    columns = ("kills", "inside", "whole", "lost", "doubled", "half", "unopened")
    print(f"{'step':<10}" + "".join(f"{name:>10}" for name in columns))
    for step, each in found["steps"].items():
        print(f"{step:<10}" + "".join(f"{each.get(name, 0):>10}" for name in columns))
    print(json.dumps({key: value for key, value in found.items() if key != "steps"}))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    bad = sum(each.get(name, 0) for each in found["steps"].values() for name in ("lost", "doubled", "half", "unopened"))
    sys.exit(int(bool(bad) or not found["equal"] or found["to_uninterrupted"] > 1.1))


def run(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All kills on one library, then the comparison."""
    chance, model = random.Random(options.seed), btoks.load(options.model)
    files, folder = home / "files", home / "library"
    for number in range(options.files):
        write(files, number, chance)
    Library.create(folder, model=options.model).add(files)
    steps: dict[str, Counter[str]] = {name: Counter() for name in AIMS}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", _SERVER, str(INDEXED)], env=environment, text=True, **pipes) as server:
        try:
            for kill in range(options.kills):
                step = tuple(AIMS)[kill % len(AIMS)]
                before = rows(Library.open(folder))
                change(files, step, options.files, chance)
                order = [spelt(step, folder), str(folder), str(files), options.model]
                steps[step].update({"kills": 1, killed(server, order, aim(chance, step), chance): 1})
                steps[step].update(wrong(folder, model, before))
        finally:
            assert server.stdin is not None
            server.stdin.close()
    return {"steps": {step: dict(each) for step, each in steps.items()}, **compared(home, options.model)}


def write(files: Path, number: int, chance: random.Random) -> None:
    """A file of some words, in one of a few folders."""
    path = files / f"d{number % 7}" / f"{number}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"note {number} {chance.random()} " + "of some words " * chance.randrange(30))


def change(files: Path, step: str, count: int, chance: random.Random) -> None:
    """Give a run something to do: a tenth of the files is new, or gone."""
    there = sorted(files.rglob("*.txt"))
    if step == "prune":
        for path in chance.sample(there, max(1, len(there) // 10)):
            path.unlink()
    elif step in ("index", "compact"):
        first = max((int(path.stem) for path in there), default=0) + 1
        for number in range(first, first + max(1, count - len(there))):
            write(files, number, chance)


def spelt(step: str, folder: Path) -> str:
    """The step with what it is to do: a reindex takes the codes off, or puts them on."""
    if step != "reindex":
        return step
    quantized = json.loads((folder / "library.json").read_text())["quantize"]
    return "reindex int8" if quantized is None else "reindex float32"


def aim(chance: random.Random, step: str) -> str | None:
    """What to wait for; None for any moment."""
    return None if chance.random() < RANDOM else chance.choice(AIMS[step])


def killed(server: subprocess.Popen[str], order: list[str], marker: str | None, chance: random.Random) -> str:
    """Begin a step and kill it; `inside` if a file had appeared that shows where it was, `whole` if it had ended."""
    assert server.stdin is not None
    assert server.stdout is not None
    folder = Path(order[1])
    before = set() if marker is None else set(folder.glob(marker))
    server.stdin.write("\t".join(order) + "\n")
    server.stdin.flush()
    pid = int(server.stdout.readline())
    ended = waited(
        pid, (lambda: chance.random() < 0.01) if marker is None else (lambda: bool(set(folder.glob(marker)) - before))
    )
    time.sleep(chance.uniform(0, 0.02))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    said = list(iter(server.stdout.readline, "ended\n"))
    if "whole\n" in said:
        return "whole"
    return "inside" if marker is not None and not ended else "anywhere"


def waited(pid: int, due: Callable[[], bool]) -> bool:
    """Wait until it is time, or the process has ended: then True."""
    while not due():
        if not Path(f"/proc/{pid}/stat").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.002)
    return False


def rows(library: Library) -> dict[str, tuple[str, ...]]:
    """The ids of each path."""
    found: dict[str, list[str]] = {}
    for row in library.view.store.get("id IS NOT NULL", ["id", "paths"]):
        for path in row["paths"]:
            found.setdefault(path, []).append(row["id"])
    return {path: tuple(sorted(ids)) for path, ids in found.items()}


def wrong(folder: Path, model: SentenceTransformer, before: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """What is wrong with a library after a kill."""
    try:
        library = Library.open(folder, model=model)
        now, facts = rows(library), library.check()
        ids = [row["id"] for row in library.view.store.get("id IS NOT NULL", ["id"])]
        hits = library.search("note of some words", k=5, min_score=0)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return {"unopened": 1}
    lost = sum(now.get(path) != names for path, names in before.items() if Path(path).exists())
    short = len(hits) < min(5, len(ids))
    return {
        "lost": lost,
        "doubled": len(ids) - len(set(ids)),
        "half": facts["missing"] + facts["orphans"],
        "unopened": int(short),
    }


def compared(home: Path, model: str) -> dict[str, Any]:
    """The next run's library beside one that was never killed."""
    library = Library.open(home / "library")
    if library.stats()["quantize"] is not None:
        library.reindex(quantize="float32")
    library.add(home / "files", prune=True, force=True)
    fresh = Library.create(home / "fresh", model=model)
    fresh.add(home / "files")
    one, other = (contents(each) for each in (library, fresh))
    equal = one.keys() == other.keys() and all(
        {**one[name], "vector": 0} == {**other[name], "vector": 0}
        and np.allclose(one[name]["vector"], other[name]["vector"], rtol=0, atol=1e-5)
        for name in one
    )
    for each in (library, fresh):
        each.compact()
    held, least = (each.stats()["bytes"] for each in (library, fresh))
    closed = closed_form(library)
    shutil.rmtree(home / "fresh")
    return {
        "rows": len(one),
        "equal": equal,
        "bytes": held,
        "to_uninterrupted": held / least,
        "to_closed": held / closed,
    }


def contents(library: Library) -> dict[str, dict[str, Any]]:
    """Every row by its id."""
    return {row["id"]: row for row in library.view.store.get("id IS NOT NULL")}


def closed_form(library: Library) -> int:
    """Bytes of all values, and of the store's own indexes."""
    total = 0
    for row in contents(library).values():
        for value in row.values():
            each = value if isinstance(value, list) else [value]
            total += sum(len(one) if isinstance(one, str | bytes) else 4 for one in each if one is not None)
    indexes = (path for path in library.path.glob("*.lance/_indices/**/*") if path.is_file())
    return total + sum(path.stat().st_size for path in indexes)


if __name__ == "__main__":
    main()
