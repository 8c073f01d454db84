"""What a power loss leaves: a writer's system calls are traced, and only what it had synced is put in a new folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from btoks.library import Library

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,mkdir,mkdirat,unlink,unlinkat,rmdir,"
    "fsync,fdatasync,sync,syncfs,sync_file_range"
)
_LINE = re.compile(r"^\d+\s+(?:<\.\.\. )?(\w+)(.*)$")
_FILE = re.compile(r"(?:\d+|AT_FDCWD)<(/[^>]*)>")
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')
_SAVED, _COUNTS = "saved ", (20, 40, 200, 199, 399)

_WRITER = """
import os, sys
import numpy as np
from btoks.library import Library
folder, vectors = sys.argv[1], np.random.default_rng(0).normal(size=(400, 16))
def saved(count):
    os.write(1, f"saved {count}\\n".encode())
    sys.stdin.readline()
library = Library.create(folder, model=None, quantize="int8")
for start in range(0, 40, 20):
    library.add_vectors([f"i{place}" for place in range(start, start + 20)], vectors[start:start + 20])
    saved(start + 20)
library.add_vectors([f"i{place}" for place in range(40, 200)], vectors[40:200])  # now there are enough for codes
saved(200)
library.remove(["i0"])
library.compact()
saved(199)
library.add_vectors([f"i{place}" for place in range(200, 400)], vectors[200:])
saved(399)
library._store.put([{"id": "late", "content": "late", "kind": "vector", "vector": vectors[0].astype("float32")}])
os._exit(0)
"""


@dataclass
class Node:
    """A file or folder; `names` of a folder are those that were synced."""

    synced: bool = False
    names: dict[str, Node] = field(default_factory=dict)


class Disk:
    """What is on a disk, as far as the traced calls say, and what of it would survive."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.now: dict[str, Node] = {self.root: Node(synced=True)}

    def call(self, name: str, line: str) -> None:
        """Follow a call that succeeded."""
        files, names = _FILE.findall(line), _NAME.findall(line)
        if name in ("fsync", "fdatasync"):
            self._sync(*files)
        elif name in ("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate", "sendfile"):
            self._changed(*files[:1])  # none for a pipe or the like
        elif name == "copy_file_range":
            self._changed(files[1])
        elif name in ("openat", "open", "creat"):
            path = self._path(names[0], files)
            if "O_CREAT" in line or name == "creat":
                self.now.setdefault(path, Node())
            if "O_TRUNC" in line:
                self._changed(path)
        elif name in ("mkdir", "mkdirat"):
            self.now[self._path(names[0], files)] = Node()
        elif name.startswith(("rename", "link")):
            self._named(name, self._path(names[0], files), self._path(names[1], files))
        elif name in ("unlink", "unlinkat", "rmdir"):
            self.now.pop(self._path(names[0], files), None)

    def _path(self, name: str, files: list[str]) -> str:
        return os.path.normpath(name if name.startswith("/") or not files else f"{files[0]}/{name}")

    def _changed(self, path: str = "") -> None:
        if path in self.now:
            self.now[path].synced = False

    def _named(self, call: str, old: str, new: str) -> None:
        inside = {path: node for path, node in self.now.items() if path == old or path.startswith(f"{old}/")}
        for path, node in inside.items():
            self.now[new + path[len(old) :]] = node
            if call.startswith("rename"):
                del self.now[path]

    def _sync(self, path: str = "") -> None:
        if path in self.now:
            self.now[path].synced = True
            self.now[path].names = {
                Path(each).name: node for each, node in self.now.items() if str(Path(each).parent) == path
            }

    def left(self) -> dict[str, bool]:
        """The paths that a restart finds, and whether their content was synced."""
        found: dict[str, bool] = {}
        waiting = [(self.root, self.now[self.root])]
        while waiting:
            path, node = waiting.pop()
            found[path] = node.synced
            waiting += [(f"{path}/{name}", each) for name, each in node.names.items()]
        return found


def traced(folder: Path, trace: Path) -> None:
    """Run the writer; whenever it reports something as saved, what its folder holds is linked beside."""
    paths = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = ["strace", "-f", "-y", "-s", "300", "--seccomp-bpf", "-e", f"trace={_CALLS}", "-o", str(trace)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [*command, sys.executable, "-c", _WRITER, str(folder)], env=environment, text=True, **pipes
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for number in range(len(_COUNTS)):
            assert running.stdout.readline().startswith(_SAVED)
            shutil.copytree(folder, folder.with_name(f"at{number}"), copy_function=os.link)
            running.stdin.write("\n")
            running.stdin.flush()
        errors = running.communicate(timeout=100)[1]
    assert running.returncode == 0, errors


def calls(trace: Path) -> Iterator[tuple[str, str]]:
    """The calls that succeeded: name and line."""
    begun: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        pid = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>")
            continue
        if " resumed>" in line[:80]:
            line = begun.pop(pid, "") + line.partition(" resumed>")[2]
        found = _LINE.match(line)
        if found and " = -1 " not in line and " = ?" not in line:
            yield found[1], found[2]


@pytest.mark.timeout(300)
def test_what_was_reported_as_saved_survives_a_power_loss(tmp_path: Path) -> None:
    folder, disk, states = tmp_path / "library", Disk(tmp_path), []
    traced(folder, tmp_path / "trace")
    for name, line in calls(tmp_path / "trace"):
        if name == "write" and f'"{_SAVED}' in line:
            states.append(disk.left())
        disk.call(name, line)
    assert len(states) == len(_COUNTS)
    vectors = np.random.default_rng(0).normal(size=(400, 16))
    for number, (count, left) in enumerate(zip(_COUNTS, states, strict=True)):
        there = tmp_path / f"after{number}"
        replayed(left, folder, tmp_path / f"at{number}", there)
        library = Library.open(there)
        assert library.stats()["rows"] == count
        assert library.search_vector(vectors[5], k=1)[0].id == "i5"
        assert library.search_vector(vectors[count - 1], k=1)[0].id == f"i{count - 1}" or number > 2


def replayed(left: dict[str, bool], folder: Path, source: Path, there: Path) -> None:
    """Make what is left anew: a file whose content was not synced is there, and empty."""
    for path in sorted(left):
        inside = Path(path).relative_to(folder) if Path(path).is_relative_to(folder) else None
        # What was removed may come back, if its removal was not synced; nothing reads it.
        if inside is not None and (source / inside).exists():
            if (source / inside).is_dir():
                (there / inside).mkdir(parents=True, exist_ok=True)
            elif left[path]:
                shutil.copy(source / inside, there / inside)
            else:
                (there / inside).write_bytes(b"")
