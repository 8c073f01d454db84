"""Answers to questions: text generated from what a search finds, be it the originals or their memories alone.

question ──search──▶ hits ──┬─ originals ──one input──▶ keys and values of all of it ─┐
                            └─ stored memories, side by side: those of K tokens each ─┴──read──▶ text, with its sources
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library.containers import entries, file_digest
from btoks.library.memories import Memories, from_bytes
from btoks.library.names import from_text, shown
from btoks.library.searching import search
from btoks.library.speaking import opened, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from btoks.condensation import Memory
    from btoks.library.interface import Store
    from btoks.library.ranking import Hit
    from btoks.library.schema import Row
    from btoks.library.view import View

_TEXT, _FRAMES = 2_000, 4
"""Characters of each source's text, and frames of each clip, that an answer is generated from."""
_COLUMNS = ("id", "content", "kind", "page", "start", "end", "text", "origins")


@dataclass(frozen=True)
class Answer:
    """What a model says to a question, and the parts of the library it says it from, the best first.

    `unread` are hits that could not be opened; without any source there is no text.
    """

    question: str
    text: str
    sources: list[Hit]
    from_memory: bool
    unread: list[BtoksError] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """The answer as `--json` prints it."""
        told = {"question": self.question, "answer": self.text, "from_memory": self.from_memory}
        return {**told, "sources": [hit.json() for hit in self.sources], "unread": [str(each) for each in self.unread]}


def answer(
    library: View,
    question: str,
    k: int,
    from_memory: bool,
    model: SentenceTransformer | str | Path | None,
    *,
    where: str | None,
    min_score: float | None,
    hybrid: bool,
    max_new_tokens: int,
) -> Answer:
    """An answer from the k best hits, as `Library.ask` describes it."""
    memories = _readable(library, model) if from_memory else None
    options: dict[str, Any] = {"hybrid": hybrid, "group": None, "like": None, "without": None}
    hits = search(library.store, library.asker, library.levels, question, k, where, min_score, **options)
    own = library.asker().model
    if memories is not None:
        return _from_memories(question, hits, memories, own, max_new_tokens)
    unread: list[BtoksError] = []
    taken = _originals(library.store, hits, unread)
    if not taken:
        return Answer(question, "", [], False, unread)
    speaker = own if model is None else opened(model, library.device)
    said = say(speaker, _together(taken), question, max_new_tokens).strip()
    return Answer(question, said, [hit for hit, _ in taken], False, unread)


def _readable(library: View, model: object) -> Memories:
    """The memories of a library; refused where it keeps none, and for any model but its own."""
    if library.memories is None:
        raise BtoksError(str(library.folder), "it keeps no memories", "index into a new library with --keep-memory")
    if model is not None:
        raise BtoksError("another model", "it cannot read these memories", "leave it out, or ask from the originals")
    return library.memories


def _from_memories(
    question: str, hits: Sequence[Hit], memories: Memories, model: SentenceTransformer, max_new_tokens: int
) -> Answer:
    from btoks.condensation import read

    held = memories.get([hit.id for hit in hits])
    sources = [hit for hit in hits if hit.id in held]
    # Another process may have removed one since.
    lost = (hit for hit in hits if hit.id not in held)
    unread = [BtoksError(place(hit), "its memory is not there", "index it again") for hit in lost]
    if not sources:
        return Answer(question, "", [], True, unread)
    whole = joined([from_bytes(held[hit.id]) for hit in sources], model)
    said = read(model, whole, question, max_new_tokens=max_new_tokens)[0].strip()
    return Answer(question, said, sources, True, unread)


def place(hit: Hit) -> str:
    """Where a hit is, for people: its path, page and time.

    >>> from btoks.library.ranking import Hit
    >>> place(Hit("i", "talk.mp4", "video", None, 75.2, 80.0, 1.0, None))
    'talk.mp4, 1:15–1:20'
    """
    where = shown(hit.path) if hit.path is not None else hit.id
    if hit.page is not None:
        where += f", page {hit.page}"
    if hit.start is not None and hit.end is not None:
        where += f", {_clock(hit.start)}–{_clock(hit.end)}"
    return where


def _clock(seconds: float) -> str:
    """A time as players show it."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def joined(memories: Sequence[Memory], model: SentenceTransformer) -> Memory:
    """Memories of one item each as one, side by side, as parallel context windows are (Ratner et al. 2023).

    Each keeps its own positions, so that none is farther from the text than its own input made it; the text goes on
    behind the longest.
    """
    import torch

    from btoks.condensation import Memory

    keys, values = ([getattr(each, name) for each in memories] for name in ("keys_LBHKD", "values_LBHKD"))
    position_B = torch.stack([each.position_B for each in memories]).amax(dim=0)
    whole = Memory(torch.cat(keys, dim=3).to(model.dtype), torch.cat(values, dim=3).to(model.dtype), position_B)
    return whole.to(model.device)


def _originals(store: Store, hits: Sequence[Hit], unread: list[BtoksError]) -> list[tuple[Hit, dict[str, Any]]]:
    """Every hit's part of its original, decoded in a worker."""
    from btoks.media import Decoder, Limits

    rows = {row["id"]: row for row in store.by("id", [hit.id for hit in hits], _COLUMNS)}
    out = []
    with closing(Decoder(Limits(frames=_FRAMES))) as decoder:
        for hit in hits:
            try:
                if hit.id in rows:  # another process may have removed it since
                    out.append((hit, _original(rows[hit.id], hit, decoder)))
            except BtoksError as error:
                unread.append(error)
            except OSError as error:
                unread.append(BtoksError(place(hit), f"it cannot be read ({error.strerror})", "ask from memory"))
    return out


def _original(row: Row, hit: Hit, decoder: Any) -> dict[str, Any]:
    """A passage as it is stored, anything else from the first file that still holds what was indexed."""
    text = {} if row["text"] is None else {"text": row["text"]}
    if row["kind"] == "text":
        return text
    for origin in sorted(set(row["origins"] or ())):
        path = from_text(origin)
        if not Path(path).is_file():
            continue
        for entry in entries(path, file_digest(path)):
            if isinstance(entry, BtoksError) or entry.content != row["content"] or entry.source is None:
                continue
            place_in = {name: row[name] for name in ("page", "start", "end")}
            return {**decoder.load(replace(entry.source, **place_in)), **text}
    raise BtoksError(place(hit), "its original is gone or has changed", "index again, or ask from memory")


def _together(taken: Sequence[tuple[Hit, dict[str, Any]]]) -> dict[str, Any]:
    """All sources as one input: their pictures first, as they stand in the prompt, then their texts by number."""
    from btoks.inputs import frames

    pictures, texts = [], []
    for number, (hit, item) in enumerate(taken, 1):
        pictures += [item["image"]] if "image" in item else frames(item["video"]) if "video" in item else []
        texts.append(f"[{number}] {place(hit)}\n{item.get('text', '')[:_TEXT]}".strip())
    return {"text": "\n\n".join(texts), "image": pictures or None}
