"""The first result: embed the bundled sample, search it by text and by picture, and show what was found.

The bundled model has seen the sample's pictures in training: the demo shows how the parts work together, and
`btoks eval mini` how good the model is on what it has not seen.
"""

from __future__ import annotations

import json as json_format
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.bundled import sample
from btoks.media import Limits

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

QUERIES: tuple[str | Path, ...] = (
    "jellyfish in blue water",
    "thunderstorms with rain",
    "the Amazon rainforest",
    Path("photos/grocery/banana-1.jpg"),
)
_LIMITS = Limits(frames=4)
Place = tuple[str, str, int | None]  # path, kind, page


@dataclass(frozen=True)
class Found:
    """A file of the sample, or a page of one, and how near it is to the query."""

    path: str
    kind: str
    page: int | None
    score: float


def run(*, json: bool = False) -> None:
    """Open the bundled model, embed the sample, search it four times, and print the hits."""
    from rich.console import Console

    import btoks

    notes = Console(stderr=True, highlight=False)
    model = btoks.load("btoks-mini")
    start = time.perf_counter()
    places, vectors_ND = embed_sample(model)
    seconds = time.perf_counter() - start
    notes.print(f"Embedded {len(places)} files and pages in {seconds:.1f} s, {len(places) / seconds:.0f} a second.\n")
    for query in QUERIES:
        start = time.perf_counter()
        hits = search(model, query, places, vectors_ND)
        show(query, hits, time.perf_counter() - start, as_json=json)


def search(
    model: SentenceTransformer,
    query: str | Path,
    places: list[tuple[str, str, int | None]],
    vectors_ND: Any,
    k: int = 5,
) -> list[Found]:
    """The `k` places nearest to a text or to a picture of the sample, which is not its own hit."""
    from btoks import Source, encode_stream

    given = query if isinstance(query, str) else Source(sample() / query)
    vector_D = next(iter(encode_stream(model, [given], task="query"))).embedding
    scores_N = vectors_ND @ vector_D
    order = sorted(range(len(places)), key=lambda at: (-scores_N[at], places[at]))
    hits = (Found(*places[at], float(scores_N[at])) for at in order if places[at][0] != str(query))
    return [next(hits) for _ in range(k)]


def embed_sample(model: SentenceTransformer) -> tuple[list[Place], Any]:
    """Every file of the sample, PDFs by page, as (path, kind, page), and their vectors."""
    from btoks import Source, encode_stream
    from btoks.media import kind, page_count

    places: list[Place] = []
    sources: list[Source] = []
    for file in sorted(path for folder in sample().iterdir() if folder.is_dir() for path in folder.rglob("*.*")):
        what = kind(Source(file))
        for page in range(1, page_count(Source(file)) + 1) if what == "pdf" else [None]:
            sources.append(Source(file, page=page))
            places.append((file.relative_to(sample()).as_posix(), "page" if page else what, page))
    found = encode_stream(model, sources, task="document", limits=_LIMITS)
    return places, np.stack([out.embedding for out in found if out.embedding is not None])


def show(query: str | Path, hits: list[Found], seconds: float, *, as_json: bool) -> None:
    """One query and its hits, as a table or as a line of JSON."""
    from rich.console import Console
    from rich.table import Table

    asked = {"text": query} if isinstance(query, str) else {"image": query.as_posix()}
    if as_json:
        line = {"query": asked, "seconds": round(seconds, 4), "hits": [vars(hit) for hit in hits]}
        sys.stdout.write(json_format.dumps(line, ensure_ascii=False) + "\n")
        return
    title = f"{next(iter(asked))}: {next(iter(asked.values()))}   ({1e3 * seconds:.0f} ms)"
    table = Table(title=title, title_justify="left", title_style="bold", min_width=72)
    for name, align in (("score", "right"), ("kind", "left"), ("file", "left")):
        table.add_column(name, justify=align)  # type: ignore[arg-type]
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", hit.kind, hit.path + (f", page {hit.page}" if hit.page else ""))
    Console().print(table)
