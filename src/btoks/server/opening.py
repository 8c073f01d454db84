"""What a request gives, decoded: data URLs, uploads, frames. Decoding is done in a worker process, under limits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from btoks.media import Decoder, Item, Limits, MediaError, Source
from btoks.media.fetch import opened
from btoks.server.problems import ProblemError
from btoks.server.schemas import Frames, Given, Uploaded

if TYPE_CHECKING:
    from pathlib import Path

    from btoks.server.uploads import Uploads

_PIXELS = 1 << 25
"""A picture that is sent may have 33 megapixels."""


@dataclass(frozen=True)
class Opened:
    """An item as the model takes it, its words, and what it is if it is more than a text."""

    item: dict[str, Any]
    words: str = ""
    kind: str | None = None


class Opener:
    """Decodes one request's media at a time, in a thread of its own."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._sent = Limits(max_bytes=uploads.max_bytes, schemes=("data",))
        # Paths are only those of uploads: nothing that a client writes becomes one.
        self._decoder = Decoder(replace(self._sent, max_pixels=_PIXELS, schemes=("file",)))
        self._thread: ThreadPoolExecutor | None = None

    @property
    def thread(self) -> ThreadPoolExecutor:
        """Where decoding is done."""
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="serve-decode")
        return self._thread

    def close(self) -> None:
        """End the thread and the worker process."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        self._decoder.close()

    def warm(self) -> None:
        """Start the worker process."""
        self._decoder.kind(Source(b"warm"))

    def open(self, given: Given) -> Opened:
        """The item that a request gives."""
        text = given.text if given.text and given.text.strip() else None
        media = {key: value for key in ("image", "video") if (value := getattr(given, key)) is not None}
        if given.upload is not None:
            if media:
                raise ProblemError(400, "an upload stands alone; name it in image or video to join others")
            media = {"": Uploaded(upload=given.upload)}
        if not media:
            if given.page is not None:
                raise ProblemError(400, "a text has no page; leave page out")
            if text is None:
                raise ProblemError(400, "there is nothing to look for; give a text, an image or a video")
            return Opened({"text": text}, text)
        item: dict[str, Any] = {}
        kinds = []
        for key, value in media.items():
            found, kind = self._medium(key, value, given.page)
            item.update(found)
            kinds.append(kind)
        if text is not None:
            item["text"] = text
            kinds = [next(key for key in ("image", "video") if key in item)]
        if set(item) == {"text"}:
            return Opened(item, item["text"])
        return Opened(item, text or "", kinds[0])

    def _medium(self, key: str, value: Any, page: int | None) -> tuple[Item, str]:
        try:
            if isinstance(value, Frames):
                return self._clip(value), "video"
            uri = self._uploads.path(value.upload) if isinstance(value, Uploaded) else self._bytes(value)
            family = self._decoder.kind(Source(uri))
            chosen = (page or 1) if family == "pdf" else page
            item = self._decoder.load(Source(uri, page=chosen))
        except MediaError as error:
            raise ProblemError(400, f"{key or 'upload'}: {error.reason}; {error.way_out}") from error
        if key and key not in item:
            raise ProblemError(400, f"{key}: it is a {family}; send it as one")
        return item, family

    def _bytes(self, url: str) -> bytes:
        with opened(Source(url), self._sent) as file:
            return file.read()

    def _clip(self, given: Frames) -> Item:
        from btoks.doctor import clip

        pictures = []
        for url in given.frames:
            item = self._decoder.load(Source(self._bytes(url)))
            if "image" not in item:
                raise ProblemError(400, "frames: one of them is no picture; send pictures")
            pictures.append(item["image"])
        if len({picture.size for picture in pictures}) > 1:
            raise ProblemError(400, "frames: they differ in size; send pictures of one size")
        return {"video": clip(pictures, given.fps)}

    def page(self, data: bytes | Path, number: int) -> Any:
        """A page of a PDF as a picture."""
        return self._decoder.load(Source(data, page=number))["image"]
