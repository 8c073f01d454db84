"""PDF pages through PDFium: a picture at a chosen size and the text layer, under one lock: it is not thread-safe."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import pypdfium2

from btoks.media.source import Item, Limits, MediaError, Source, check

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = threading.Lock()
_PASSWORD_ERROR = 4
_BROKEN_WORD = ("\ufffe", "\x02")
"""How PDFium writes the hyphen of a word that goes on in the next line."""


@contextmanager
def _opened(file: IO[bytes], name: str, limits: Limits) -> Iterator[tuple[pypdfium2.PdfDocument, int]]:
    with _LOCK:
        # A document without pages leaves PDFium's last error as it was; this load of nothing makes it a plain one.
        pypdfium2.raw.FPDF_LoadMemDocument64(b"", 0, None)  # type: ignore[attr-defined]
        try:
            document = pypdfium2.PdfDocument(file)  # type: ignore[no-untyped-call]
        except pypdfium2.PdfiumError as error:
            if error.err_code == _PASSWORD_ERROR:
                raise MediaError(name, "is encrypted with a password", "save it without one") from error
            reason = "is no PDF with pages that can be read"
            raise MediaError(name, reason, "repair it (print it to a new PDF), or skip it") from error
        try:
            count = len(document)
            if count > limits.max_pages:
                reason = f"has {count} pages, more than max_pages={limits.max_pages}"
                raise MediaError(name, reason, "split it or raise max_pages")
            yield document, count
        finally:
            document.close()  # type: ignore[no-untyped-call]


def count_pages(file: IO[bytes], name: str, limits: Limits) -> int:
    """How many pages a PDF has."""
    with _opened(file, name, limits) as (_, count):
        return count


def load_page(file: IO[bytes], source: Source, limits: Limits) -> Item:
    """One page as a picture of `page_size` pixels on its longest side, and its text layer if it has one."""
    check(source, paged=True)
    with _opened(file, source.name, limits) as (document, count):
        pages = f"{count} page{'s' if count > 1 else ''}"
        if source.page is None and count > 1:
            raise MediaError(source.name, f"has {pages}", f"choose one with page=1 to page={count}")
        if (source.page or 1) > count:
            reason = f"has {pages}, so there is no page {source.page}"
            raise MediaError(source.name, reason, f"choose one from 1 to {count}")
        document.init_forms()  # type: ignore[no-untyped-call]
        page = document[(source.page or 1) - 1]
        # PDFium rounds both sides up; without the small margin rounding errors would add a pixel.
        scale = (limits.page_size - 1e-3) / max(*page.get_size(), 1e-3)
        image = page.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")
        textpage = page.get_textpage()
        text = _clean(textpage.get_text_bounded())[: limits.max_text]
        textpage.close()
        page.close()
        return {"image": image, "text": text} if text.strip() else {"image": image}


def _clean(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\0", "")
    for mark in _BROKEN_WORD:
        text = text.replace(f"{mark}\n", "").replace(mark, "")
    return text
