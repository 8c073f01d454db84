"""The three picture formats, which share one table: a picture or a text asks, a list of texts or pictures answers.

Where a query without a picture has the placeholder of one in its instruction, it is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from btoks.evaluation.mmeb.loading import Collected, Found, Loading, picture
from btoks.evaluation.task import Entry

_LINES = ("\n", "\n")
_QUOTE = '"'


def image_rows(loading: Loading) -> Found:
    """A row is a query with its own list of candidates, the first of which is right."""
    row, config = loading.row, str(loading.row.config)
    table = loading.table(config)
    root = loading.home()
    shows = row.format.startswith("image_query")
    collected = Collected(local=True)
    ending = row.options.get("query_end", "\n")
    for number, record in enumerate(table.rows()):
        loading.agree(record.get("qry_inst"), str(row.query))
        text = record["qry_text"] if (record["qry_text"] or "").strip() else ""
        seen = picture(root, record["qry_img_path"]) if shows else {}
        query = Entry(str(number), text=text, instruction=str(row.query), spacing=("\n", ending), **seen)
        entries: Iterable[Entry]
        if row.format.endswith("text_candidates"):
            ids = record["tgt_text"]
            entries = (Entry(each, text=each, spacing=("", "")) for each in ids if each not in collected.corpus)
        else:
            loading.agree(record.get("tgt_inst"), row.candidate)
            ids = _names(loading, record)
            entries = _pictures(loading, root, record, collected.corpus)
        for entry in entries:
            collected.candidate(entry)
        collected.query(query, ids[:1], ids)
    return collected.found({config: table})


def _names(loading: Loading, record: Mapping[str, Any]) -> list[str]:
    """What pictures are told apart by: their path, and where a picture asks also their caption."""
    paths, captions = record["tgt_img_path"], record["tgt_text"]
    if not loading.row.format.startswith("image_query"):
        return list(paths)
    return [f"{path}:{(caption or '').strip(_QUOTE)}" for path, caption in zip(paths, captions, strict=True)]


def _pictures(loading: Loading, root: Path, record: Mapping[str, Any], known: Collection[str]) -> Iterator[Entry]:
    """The row's pictures that have not come yet, with their captions, which count if the first is not blank."""
    captioned = bool(record["tgt_text"]) and bool((record["tgt_text"][0] or "").strip())
    spacing = _LINES if captioned or not loading.row.format.startswith("image_query") else ("\n", "")
    for name, path, caption in zip(_names(loading, record), record["tgt_img_path"], record["tgt_text"], strict=True):
        if name not in known:
            text, shown = caption if captioned else "", picture(root, path)
            yield Entry(name, text=text or "", instruction=loading.row.candidate, spacing=spacing, **shown)
