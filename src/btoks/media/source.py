"""What can be opened (`Source`), under which limits (`Limits`), what comes out (`Item`), and the one error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from btoks.errors import BtoksError

_LONGEST_NAME = 160


class MediaError(BtoksError):
    """An input that cannot be opened: names the item, the reason and the way out."""


class VideoMetadata(TypedDict):
    """Where the kept frames lie: frame `i` is shown at `frames_indices[i] / fps` seconds."""

    fps: float
    total_num_frames: int
    duration: float
    frames_indices: list[int]
    width: int
    height: int


class Video(TypedDict):
    """Frames (T, H, W, 3) uint8 with their place in time."""

    array: np.ndarray[Any, np.dtype[np.uint8]]
    video_metadata: VideoMetadata


class Item(TypedDict, total=False):
    """One decoded input, as sentence-transformers takes it; a page has an image and, if there is one, a text.

    The `context` of a text is for models that read one.
    """

    text: str
    context: str
    image: Image.Image
    video: Video


@dataclass(frozen=True, repr=False)
class Source:
    """Something to open later: a path, URL, bytes, picture, array or list of frames; pages from 1, times in seconds.

    A `str` is a path or an http(s), `file:` or `data:` URL, never text. Nothing is opened or checked here.

    >>> Source("talk.mp4", start=3.5, end=8)
    Source(talk.mp4, start=3.5, end=8)
    """

    uri: str | Path | bytes | Image.Image | np.ndarray[Any, Any] | list[Any]
    page: int | None = None
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """A short name for messages: never the data itself, no password and no query of a URL.

        >>> Source("https://user:secret@example.org/cat.jpg?token=1").name
        'https://example.org/cat.jpg'
        """
        name = _name(self.uri)
        return name if len(name) <= _LONGEST_NAME else f"{name[:40]}…{name[-(_LONGEST_NAME - 41) :]}"

    def __repr__(self) -> str:
        options = ((key, getattr(self, key)) for key in ("page", "start", "end"))
        return f"Source({self.name}{''.join(f', {key}={value}' for key, value in options if value is not None)})"


def _name(uri: object) -> str:
    if isinstance(uri, bytes):
        return f"<bytes: {len(uri)}>"
    if isinstance(uri, Image.Image):
        return f"<image: {uri.width}x{uri.height}>"
    if isinstance(uri, np.ndarray):
        return f"<array: {'x'.join(map(str, uri.shape))}>"
    if isinstance(uri, list):
        return f"<frames: {len(uri)}>"
    if not isinstance(uri, str):
        return str(uri) if isinstance(uri, Path) else f"<{type(uri).__name__}>"
    if uri[:5].lower() == "data:":
        return f"<data URL: {uri[5:60].partition(',')[0].partition(';')[0] or 'text/plain'}, {len(uri)} characters>"
    if "://" in uri[:16]:
        scheme, _, rest = uri.partition("://")
        place, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
        return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"
    return uri


def scheme_of(uri: str) -> str | None:
    """The scheme of a URL, in lower case; None for a path (also for `C:\\file` and `notes:today.txt`).

    >>> scheme_of("HTTP://example.org"), scheme_of("data:,hi"), scheme_of("notes:today.txt")
    ('http', 'data', None)
    """
    scheme, colon, rest = uri.partition(":")
    scheme = scheme.lower()
    if not colon or not scheme[:1].isalpha() or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        return None
    return scheme if rest.startswith("//") or scheme in ("file", "data") else None


@dataclass(frozen=True)
class Limits:
    """What one input may cost, and from where it may come. Sizes are checked before anything is decoded.

    `frames` are sampled uniformly; with `fps` set, frames are taken at that rate instead, at most `max_frames`.
    """

    max_bytes: int = 1 << 30
    """Size of a file, a body or a data URL."""
    max_pixels: int = 1 << 26
    """Width times height of one decoded image or video frame (2²⁶: 67 megapixels)."""
    max_side: int = 1280
    """Longest side of a video frame in pixels; larger frames are scaled down while they are decoded."""
    frames: int = 8
    fps: float | None = None
    max_frames: int = 64
    page_size: int = 1280
    """Longest side of a rendered page in pixels."""
    max_pages: int = 10_000
    """Pages of a document; a longer one is refused."""
    max_text: int = 10_000_000
    """Characters of a text; a longer one is refused."""
    schemes: tuple[str, ...] = ("http", "https", "file", "data")
    """Allowed schemes; without "file", paths are refused too."""
    allow_private: bool = False
    """Fetch also from loopback, private, link-local and reserved addresses."""
    timeout: float = 20.0
    """Seconds that one fetch may take, redirects included."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("schemes", "allow_private") and value is not None and not value > 0:
                raise BtoksError("Limits", f"{field.name}={value} lets nothing through", "give a positive number")


DEFAULT = Limits()


def check(source: Source, *, paged: bool = False, timed: bool = False) -> None:
    """Refuse a page or a clip that the source's kind does not have, or that makes no sense."""
    page, start, end = source.page, source.start, source.end
    if page is not None and not paged:
        raise MediaError(source.name, "has no pages", "leave `page` out")
    if page is not None and page < 1:
        raise MediaError(source.name, f"there is no page {page}", "count pages from 1")
    if (start is not None or end is not None) and not timed:
        raise MediaError(source.name, "has no duration", "leave `start` and `end` out")
    if start is not None and not 0 <= start < float("inf"):
        raise MediaError(source.name, f"a clip cannot start at {start} s", "give seconds from 0")
    if end is not None and not end > (start or 0):
        raise MediaError(source.name, f"the clip from {start or 0} s to {end} s is empty", "let it end after its start")


def check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    """Refuse a picture that is empty or larger than `max_pixels`, before it is decoded."""
    if width < 1 or height < 1:
        raise MediaError(name, f"is empty ({width}x{height} pixels)", "pass a picture with pixels")
    if width * height > limits.max_pixels:
        raise MediaError(
            name, f"{width}x{height} pixels exceed max_pixels={limits.max_pixels}", "shrink it or raise max_pixels"
        )


def host_of(url: str) -> tuple[str, int | None]:
    """Host and port of a URL; ValueError where they are malformed."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    return parts.hostname, parts.port
