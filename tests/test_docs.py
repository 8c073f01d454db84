"""Every block of code in README.md and docs/ runs: Python in one namespace a page, `btoks` lines in this process.

A block whose first line names a file after the language is that file; only ```text is for reading alone. The pages may
use photos/, report.pdf, clip.mp4, note.txt, the folders `backbone` and `vlm2vec-v2`, and btoks-mini.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tiny
from btoks.bundled import sample
from command import run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SET_UP = {"source .venv/bin/activate"}


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands after the backticks, its code, and the line it begins in."""

    language: str
    file: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        language, _, file = found[1].partition(" ")
        yield Block(language, file, found[2], text[: found.start()].count("\n") + 2)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photos").mkdir()
    for place, photo in enumerate(sorted((sample() / "photos" / "aquarium").iterdir())[:3], start=1):
        shutil.copy(photo, tmp_path / "photos" / f"{place}.jpg")
    shutil.copy(sample() / "documents" / "recipe-shakshouka.pdf", tmp_path / "report.pdf")
    shutil.copy(min((sample() / "videos").rglob("*.mp4")), tmp_path / "clip.mp4")
    shutil.copy(min((sample() / "notes").iterdir()), tmp_path / "note.txt")
    tiny.folder("qwen3_vl", tmp_path / "backbone")
    tiny.folder("qwen2_vl", tmp_path / "vlm2vec-v2")
    monkeypatch.setenv("BTOKS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Run it with its lines where they are in the page, for the traceback."""
    exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)


def run_shell(line: str, home: Path) -> None:
    """Run a line: `btoks` in this process, with < and > ; `make` has to be a target; the rest is set-up we know."""
    words = shlex.split(line, comments=True)
    if not words or line in SET_UP:
        return
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), line
        return
    assert words[0] == "btoks", f"cannot run: {line}"
    into = [home / words[at + 1] for at, word in enumerate(words) if word == "<"]
    out = [home / words[at + 1] for at, word in enumerate(words) if word == ">"]
    argv = words[1 : min((at for at, word in enumerate(words) if word in "<>"), default=len(words))]
    ran = run(*argv, stdin=into[0].read_bytes() if into else None)
    assert ran.status == 0, f"{line}\n{ran.err}"
    for path in out:
        path.write_text(ran.out, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_block_runs(page: Path, home: Path):
    namespace: dict[str, Any] = {"__name__": "page"}
    found = list(blocks(page))
    assert len(found) == page.read_text(encoding="utf-8").count("\n```") / 2
    for block in found:
        if block.file:
            (home / block.file).write_text(block.code, encoding="utf-8")
        elif block.language == "python":
            run_python(block, page, namespace)
        elif block.language == "bash":
            for line in block.code.replace("\\\n", "").splitlines():
                run_shell(line, home)
        else:
            assert block.language == "text", f"{page.name}:{block.line}: cannot run {block.language!r}"


def test_every_option_of_a_text_block_exists():
    """What cannot be run is checked as far as it goes: its command and options are known."""
    for page in PAGES:
        for line in (line for block in blocks(page) if block.language == "text" for line in block.code.splitlines()):
            words = shlex.split(line)
            assert words[0] == "btoks", line
            shown = run(words[1], "--help").out
            assert all(word in shown for word in words if word.startswith("--")), line


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_link_leads_somewhere(page: Path):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_readme_example_is_short():
    (example,) = [block for block in blocks(ROOT / "README.md") if block.language == "python"]
    assert len([line for line in example.code.splitlines() if line]) <= 12
