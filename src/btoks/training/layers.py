"""The text layer of pages that are kept as pictures: beside them lie JSON lines with a page's id and its text.

    {"id", "title", "body"}     a page of prose
    {"id", "title", "header", "rows"}     a page with a table: a line a row

The picture of a page has the page's id as its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = ("pages*.jsonl", "tables*.jsonl")


def layers(home: Path) -> dict[str, str]:
    """The text of each page of a data folder, by the stem of its picture's name.

    >>> layers(Path("wikitables"))  # doctest: +SKIP
    """
    files = [file for pattern in _FILES for file in sorted(home.glob(pattern))]
    if not files:
        raise BtoksError(str(home), "its pages have no text layer", "add pages.jsonl, or read the pictures alone")
    found: dict[str, str] = {}
    for file in files:
        found |= {page["id"]: text_of(page) for page in objects(file)}
    return found


def objects(file: Path) -> list[dict[str, Any]]:
    """What stands in a file of JSON lines; OSError or ValueError if it is none."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def text_of(page: Mapping[str, Any]) -> str:
    """A page's text in reading order.

    >>> text_of({"title": "Tides", "header": ["Port", "m"], "rows": [["Brest", "7"]]}).splitlines()
    ['Tides', 'Port | m', 'Brest | 7']
    """
    rows = [page["header"], *page["rows"]] if "rows" in page else []
    lines = [page.get("title"), page.get("body"), *(" | ".join(map(str, row)) for row in rows)]
    return "\n".join(line for line in lines if line)
