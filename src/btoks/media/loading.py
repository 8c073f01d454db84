"""Opening a source: one dispatch on its content, one place where every error of a decoder becomes a `MediaError`."""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks.media import images, pdf, text, video
from btoks.media.fetch import opened
from btoks.media.frames import Pixels, Timeline, assemble, choose
from btoks.media.sniff import HEAD, Family, sniff
from btoks.media.source import DEFAULT, Item, Limits, MediaError, Source, check, check_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Array = np.ndarray[Any, Any]
_FRAME_RATE = Fraction(2)
"""Frames a second assumed for frames given without times."""


def load(source: Source, limits: Limits = DEFAULT) -> Item:
    """Decode a source completely; whatever is wrong with it is raised here, as MediaError.

    >>> load(Source(b"hello"))
    {'text': 'hello'}
    """
    item = from_memory(source, limits, lambda frame: load(frame, limits))
    return _from_content(source, limits) if item is None else item


def from_memory(source: Source, limits: Limits, load_frame: Callable[[Source], Item]) -> Item | None:
    """The item of a picture, an array or a list of frames; None for a source whose content must be decoded first."""
    with _explained(source):
        uri = source.uri
        if isinstance(uri, str | Path | bytes):
            return None
        if isinstance(uri, Image.Image):
            check(source)
            check_pixels(source.name, uri.width, uri.height, limits)
            return {"image": images.upright_rgb(uri)}
        if isinstance(uri, np.ndarray) and uri.ndim != 4:
            check(source)
            return {"image": images.from_array(uri, source.name, limits)}
        if isinstance(uri, list | np.ndarray):
            return _from_frames(source, uri, limits, load_frame)
        reason = f"a {type(uri).__name__} cannot be opened"
        raise MediaError(source.name, reason, "pass a path, URL, bytes, image, array or list of frames")


def _from_content(source: Source, limits: Limits) -> Item:
    with _explained(source), opened(source, limits) as file:
        family, decoder = sniff(file.read(HEAD), source.name)
        file.seek(0)
        if family == "image":
            return images.load_image(file, source, decoder, limits)
        if family == "video":
            return video.load_video(file, source, decoder, limits)
        if family == "pdf":
            return pdf.load_page(file, source, limits)
        check(source)
        return text.load_text(file, source.name, decoder, limits)


def kind(source: Source, limits: Limits = DEFAULT) -> Family:
    """What `load` would make of a source, told from its first bytes: "text", "image", "video" or "pdf".

    >>> kind(Source(b"hello"))
    'text'
    """
    with _explained(source):
        if isinstance(source.uri, Image.Image):
            return "image"
        if isinstance(source.uri, list | np.ndarray):
            return "video" if isinstance(source.uri, list) or source.uri.ndim == 4 else "image"
        with opened(source, limits) as file:
            family, decoder = sniff(file.read(HEAD), source.name)
            if family != "image":
                return family
            file.seek(0)
            with images.opened_image(file, source.name, decoder, limits) as image:
                return "video" if images.is_animation(image) else "image"


def page_count(source: Source, limits: Limits = DEFAULT) -> int:
    """How many pages a PDF has; MediaError for anything else."""
    with _explained(source):
        if isinstance(source.uri, list | np.ndarray | Image.Image):
            raise MediaError(source.name, "is no PDF", "ask only documents for their pages")
        with opened(source, limits) as file:
            if sniff(file.read(HEAD), source.name).family != "pdf":
                raise MediaError(source.name, "is no PDF", "ask only documents for their pages")
            file.seek(0)
            return pdf.count_pages(file, source.name, limits)


@contextmanager
def _explained(source: Source) -> Iterator[None]:
    """Decoders raise whatever they like on damaged data; each becomes the one typed error."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(source.name, "needs more memory to decode than there is", "shrink it") from error
    except Exception as error:
        detail = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise MediaError(source.name, f"cannot be decoded ({detail})", "repair it, or skip it") from error


def _from_frames(
    source: Source, frames: Sequence[object] | Array, limits: Limits, load_frame: Callable[[Source], Item]
) -> Item:
    """A list or array of frames as one video at an assumed rate; only the frames kept are opened."""
    check(source, timed=True)
    if len(frames) == 0:
        raise MediaError(source.name, "holds no frames", "pass at least one")
    timeline = Timeline(range(len(frames)), 1 / _FRAME_RATE, _FRAME_RATE, len(frames) / _FRAME_RATE)
    kept = choose(timeline, source, limits)
    sizes: list[tuple[int, int]] = []
    pixels = (_frame(frames[index], f"frame {index} of {source.name}", load_frame, sizes) for index in kept)
    return assemble(pixels, kept, timeline, sizes, limits)


def _frame(uri: object, where: str, load_frame: Callable[[Source], Item], sizes: list[tuple[int, int]]) -> Pixels:
    if isinstance(uri, list) or (isinstance(uri, np.ndarray) and uri.ndim not in (2, 3)):
        raise MediaError(where, "is no picture", "pass one path, image or (H, W, C) array for each frame")
    frame = Source(uri)  # type: ignore[arg-type]
    where = f"{where} ({frame.name})"
    try:
        item = load_frame(frame)
    except MediaError as error:
        raise MediaError(where, error.reason, error.way_out) from error
    if item.keys() != {"image"}:
        raise MediaError(where, "is no picture", "pass one still picture for each frame")
    sizes.append(item["image"].size)
    return np.asarray(item["image"])
