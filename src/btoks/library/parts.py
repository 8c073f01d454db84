"""A file's searchable parts: passages of a text, pages of a PDF, segments of a video, or the picture as a whole."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks.errors import BtoksError
from btoks.media import Decoder, Item, Limits, MediaError, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PASSAGE, _OVERLAP = 1_000, 200
_AROUND = 8
"""Passages on either side that are a passage's context, for models that read one."""
_WINDOW, _SHORTEST = 10.0, 2.0
_SCENE = 0.25
"""Mean difference of two neighbouring looks, of 1 at most, that makes a new scene."""
_LOOKS = Limits(fps=2, max_frames=1_200, max_side=48)
_THUMBNAIL, _QUALITY = 192, 80
SETTINGS = {"passage": _PASSAGE, "overlap": _OVERLAP, "window": _WINDOW, "shortest": _SHORTEST, "scene": _SCENE}


@dataclass(frozen=True)
class Part:
    """One thing to find: where it is in its file, what the model is given, and what a person is shown."""

    suffix: str
    kind: str
    item: Item
    text: str | None = None
    page: int | None = None
    start: float | None = None
    end: float | None = None
    thumbnail: bytes | None = None


class Cutter:
    """Cuts files in parts; all decoding is done in worker processes."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._looker = Decoder(_LOOKS)

    def close(self) -> None:
        """End the workers."""
        self._decoder.close()
        self._looker.close()

    def parts(self, source: Source) -> Iterator[Part | BtoksError]:
        """The parts of a source in their order, or what is wrong with one of them, or with all.

        A source that names a page or a clip is one part.
        """
        if (source.page, source.start, source.end) != (None, None, None):
            yield from self._each(iter([source]))
            return
        try:
            kind = self._decoder.kind(source)
            if kind == "pdf":
                count = self._decoder.page_count(source)
                yield from self._each(Source(source.uri, page=page) for page in range(1, count + 1))
            elif kind == "video":
                yield from self._each(Source(source.uri, start=a, end=b) for a, b in self._segments(source))
            else:
                yield from _whole(self._decoder.load(source))
        except MediaError as error:
            yield error

    def _each(self, sources: Iterator[Source]) -> Iterator[Part | BtoksError]:
        for source in sources:
            try:
                yield _part(source, self._decoder.load(source))
            except MediaError as error:
                yield error

    def _segments(self, source: Source) -> list[tuple[float, float]]:
        video = self._looker.load(source)["video"]
        metadata = video["video_metadata"]
        times_T = np.array(metadata["frames_indices"]) / metadata["fps"]
        return segments(times_T, video["array"], metadata["duration"])


def segments(times_T: Any, frames: Any, duration: float) -> list[tuple[float, float]]:
    """Times at which to cut a video: where the scene changes, and evenly between, none shorter than two seconds.

    >>> segments(np.arange(25.0), np.zeros((25, 2, 2, 3), np.uint8), 25.0)
    [(0.0, 8.333), (8.333, 16.667), (16.667, 25.0)]
    """
    differences_T = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3)) / 255
    cuts = [0.0]
    for time in times_T[1:][differences_T > _SCENE]:
        if time - cuts[-1] >= _SHORTEST and duration - time >= _SHORTEST:
            cuts.append(float(time))
    cuts.append(duration)
    edges: list[float] = []
    for start, end in pairwise(cuts):
        count = max(1, int(np.ceil((end - start) / _WINDOW)))
        edges += [start + (end - start) * place / count for place in range(count)]
    edges = [round(edge, 3) for edge in [*edges, duration]]
    return list(pairwise(edges))


def passages(text: str) -> list[str]:
    """A long text in overlapping passages that begin and end between words.

    >>> [len(each) for each in passages("word " * 500)]
    [1000, 1000, 900]
    """
    found, start = [], 0
    while len(text) - start > _PASSAGE:
        end = _gap(text, start + _PASSAGE // 2, start + _PASSAGE)
        found.append(text[start:end])
        start = _gap(text, end - 2 * _OVERLAP, end - _OVERLAP)
    return [each for each in [*found, text[start:]] if each.strip()]


def _gap(text: str, low: int, high: int) -> int:
    """The place behind the last white space of a stretch; its end where there is none."""
    return next((place for place in range(high, low, -1) if text[place - 1].isspace()), high)


def _whole(item: Item) -> Iterator[Part]:
    """A picture, or the passages of a text."""
    if "image" in item:
        yield Part("", "image", item, thumbnail=_thumbnail(item["image"]))
        return
    yield from of_text(plain(item["text"]))


def of_text(text: str) -> Iterator[Part]:
    """The passages of a text as parts."""
    cut = passages(text)
    for number, text in enumerate(cut, 1):
        yield Part(f"#{number}" if len(cut) > 1 else "", "text", in_context(cut, number - 1), text)


def in_context(cut: Sequence[str], place: int) -> Item:
    """What a model is given of a passage: its text, and those around it."""
    around = [*cut[max(0, place - _AROUND) : place], *cut[place + 1 : place + 1 + _AROUND]]
    return {"text": cut[place], "context": "\n".join(around)} if around else {"text": cut[place]}


def _part(source: Source, item: Item) -> Part:
    """A page or a clip."""
    if "video" in item:
        frames, start, end = item["video"]["array"], source.start, source.end
        suffix = f"#t={start or 0:g},{end:g}" if end is not None else f"#t={start or 0:g}"
        shown = _thumbnail(Image.fromarray(frames[len(frames) // 2]))
        return Part(suffix, "video", item, start=start, end=end, thumbnail=shown)
    suffix, shown = f"#page={source.page}", _thumbnail(item["image"])
    return Part(suffix, "pdf", item, item.get("text"), page=source.page, thumbnail=shown)


def _thumbnail(image: Image.Image) -> bytes:
    small = image.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=_QUALITY)
    return data.getvalue()


def plain(text: str) -> str:
    """The text without tags, if it is HTML; any other text as it is.

    >>> plain("<!doctype html><title>Foxes</title><script>x</script><p>A <b>red</b> fox<p>runs")
    'Foxes\\nA red fox\\nruns'
    """
    start = text[:1024].lstrip("\ufeff \t\r\n").lower()
    if not start.startswith(("<!doctype html", "<html")):
        return text
    page = _Page()
    page.feed(text)
    page.close()
    lines = (" ".join(line.split()) for line in "".join(page.pieces).splitlines())
    return "\n".join(line for line in lines if line)


class _Page(HTMLParser):
    """What a browser would show of a page, a line a block."""

    _HIDDEN = ("script", "style", "template", "noscript", "svg")
    _INLINE = ("a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "font", "i", "kbd", "mark", "q")
    _WORDS = (*_INLINE, "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._HIDDEN:
            self._hidden.append(tag)
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data.replace("\n", " "))

    def _break(self, tag: str) -> None:
        if tag not in self._WORDS:
            self.pieces.append("\n")
