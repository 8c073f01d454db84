"""Files that cannot be read, or are gone before they are: named, left for the next run, and nothing else is lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from btoks.library import Library
from library.stored import contents, write
from library.test_killed import _as_nobody
from media import samples

_ADD = """
import sys
from btoks.library import Library
report = Library.open(sys.argv[1]).add(sys.argv[2])
print(report.files, report.embedded)
for error in report.errors:
    print(error)
"""


def test_what_one_may_not_read_is_named(model: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        folder, files = Path(home) / "library", Path(home) / "files"
        Library.create(folder, model=model)
        write(files, "secret.txt", "nobody may read this").chmod(0o000)
        write(files, "closed/inner.txt", "nor this")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        (files / "closed").chmod(0o000)
        ran = _as_nobody(_ADD, folder, files)
        (files / "closed").chmod(0o755)
        lines = ran.stdout.splitlines()
    assert lines[0] == "1 0", ran.stderr
    assert [Path(line.partition(": ")[0]).name for line in lines[1:]] == ["closed", "secret.txt"]
    assert all("it cannot be read (Permission denied)" in line for line in lines[1:])


@pytest.mark.parametrize("name", ["note.txt", "photo.png"])
def test_a_file_that_disappears_while_it_is_read_is_left_for_the_next_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from btoks.library import reading

    library, files = Library.create(tmp_path / "library", model=model), tmp_path / "files"
    kept = write(files, "kept.txt", "steady words")
    path = write(files, name, samples.samples()["png"] if name.endswith("png") else "words that go")
    opened = reading.entries

    def going(file: str, content: str) -> Any:
        for entry in opened(file, content):
            if file == str(path):
                path.unlink()
            yield entry

    monkeypatch.setattr(reading, "entries", going)
    report = library.add(files)
    assert [error.item.rpartition("/")[2] for error in report.errors][-1] == name
    assert {row["path"] for row in contents(library).values()} == {str(kept)}
    monkeypatch.undo()
    write(files, name, "there again")
    assert library.add(files).embedded == 1
    assert library.add(files).unchanged == 2
