"""A small PDF writer: a page is a title, a picture, a table and paragraphs, set in Helvetica with a text layer.

Uncompressed and without dates or ids, so the same pages give the same bytes everywhere.
"""

from __future__ import annotations

import io
import unicodedata
from dataclasses import dataclass

from PIL import Image

MARGIN = 34
SIZES = (16, 15, 14, 13, 12, 11, 10, 9, 8, 7)
PICTURE_HEIGHT = 150
GAP = 8

# Advance widths of Helvetica in thousandths of the size, from U+0020 to U+007E.
_WIDTHS = (
    [278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278]
    + [556] * 10
    + [278, 278, 584, 584, 584, 556, 1015]
    + [667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833]
    + [722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611]
    + [278, 278, 278, 469, 556, 333]
    + [556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833]
    + [556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500]
    + [334, 260, 334, 584]
)
_WIDE = 1000  # of every character that has no plain base letter: none of WinAnsi's is wider
_BOLD = 1.12  # Helvetica-Bold is at most this much wider on running text


@dataclass(frozen=True)
class Page:
    """What stands on one page; `table` is rows of equal length, the first one the header; `picture` a JPEG file."""

    title: str
    paragraphs: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    picture: bytes | None = None
    width: int = 420
    height: int = 595


@dataclass(frozen=True)
class _Column:
    x: float
    width: float


def write_pdf(pages: list[Page]) -> bytes:
    """The file; what does not fit on a page at the smallest size, or is not in WinAnsi, is a ValueError."""
    objects = [b"", b"", _font("Helvetica"), _font("Helvetica-Bold")]  # the first two are filled in below
    kids = []
    for page in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        picture = f" /XObject << /P {number + 2} 0 R >>" if page.picture else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {page.width} {page.height}] /Contents {number + 1} 0 R"
            f" /Resources << /Font << /F1 3 0 R /F2 4 0 R >>{picture} >> >>".encode()
        )
        objects.append(_stream("", _content(page)))
        if page.picture:
            objects.append(_picture_object(page.picture))
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    return _file(objects)


def _file(objects: list[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def _font(name: str) -> bytes:
    return f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()


def _stream(entries: str, body: bytes) -> bytes:
    return f"<< {entries}/Length {len(body)} >>\nstream\n".encode() + body + b"\nendstream"


def _picture_object(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = image.size
    head = f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB "
    return _stream(head + "/BitsPerComponent 8 /Filter /DCTDecode ", jpeg)


def _content(page: Page) -> bytes:
    for size in SIZES:
        operators, bottom = _set(page, size)
        if bottom >= MARGIN and not _too_wide(page, size):
            return "\n".join(operators).encode("cp1252")
    raise ValueError(f"{page.title}: does not fit on one page; shorten it or split it into two")


def _set(page: Page, size: int) -> tuple[list[str], float]:
    """The page's drawing operators at this text size, and how far down they reach."""
    operators: list[str] = []
    room = page.width - 2 * MARGIN
    y = float(page.height - MARGIN)
    for line in _wrap(page.title, size + 5, room, bold=True):
        y -= size + 5
        operators.append(_text(line, MARGIN, y, size + 5, bold=True))
        y -= 3
    y -= GAP
    if page.picture:
        with Image.open(io.BytesIO(page.picture)) as image:
            width = min(room, PICTURE_HEIGHT * image.width / image.height)
            height = width * image.height / image.width
        y -= height
        operators.append(f"q {width:.2f} 0 0 {height:.2f} {MARGIN} {y:.2f} cm /P Do Q")
        y -= GAP
    if page.table:
        y = _set_table(page, size, y, operators)
    for paragraph in page.paragraphs:
        for line in _wrap(paragraph, size, room):
            y -= size * 1.3
            operators.append(_text(line, MARGIN, y, size))
        y -= GAP
    return operators, y


def _set_table(page: Page, size: int, y: float, operators: list[str]) -> float:
    columns = _columns(page, size)
    right = page.width - MARGIN
    for k, row in enumerate(page.table):
        cells = [_wrap(cell, size, column.width - GAP, bold=k == 0) for cell, column in zip(row, columns, strict=True)]
        height = max(len(lines) for lines in cells) * size * 1.25 + 4
        if k % 2 == 0:
            shade = 0.85 if k == 0 else 0.95
            operators.append(f"{shade} g {MARGIN} {y - height:.2f} {right - MARGIN} {height:.2f} re f 0 g")
        for lines, column in zip(cells, columns, strict=True):
            operators += [
                _text(line, column.x + 2, y - (n + 1) * size * 1.25 + 1, size, bold=k == 0)
                for n, line in enumerate(lines)
            ]
        y -= height
    return y - GAP


def _columns(page: Page, size: int) -> list[_Column]:
    """Columns as wide as their widest cell, the widest ones cut to a common width until all fit the page."""
    room = page.width - 2 * MARGIN
    natural = [
        max(_width(cell, size, bold=True) for cell in column) + GAP + 2 for column in zip(*page.table, strict=True)
    ]
    cap, left = 0.0, float(room)
    for k, width in enumerate(sorted(natural)):
        cap = left / (len(natural) - k)
        if width > cap:
            break
        left -= width
    widths = [min(width, cap) if sum(natural) > room else width for width in natural]
    return [_Column(MARGIN + sum(widths[:k]), width) for k, width in enumerate(widths)]


def _too_wide(page: Page, size: int) -> bool:
    """Whether some word of the table is wider than its column: such words are not broken but set smaller."""
    if not page.table:
        return False
    columns = _columns(page, size)
    return any(
        _width(word, size, bold=k == 0) > column.width - GAP
        for k, row in enumerate(page.table)
        for cell, column in zip(row, columns, strict=True)
        for word in cell.split()
    )


def _wrap(text: str, size: float, room: float, *, bold: bool = False) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, size, bold=bold) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _width(text: str, size: float, *, bold: bool = False) -> float:
    thousandths = 0
    for character in text:
        base = ord(unicodedata.normalize("NFD", character)[0])
        thousandths += _WIDTHS[base - 32] if 32 <= base <= 126 else _WIDE
    return thousandths * size / 1000 * (_BOLD if bold else 1)


def _text(line: str, x: float, y: float, size: float, *, bold: bool = False) -> str:
    escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /F{2 if bold else 1} {size} Tf {x:.2f} {y:.2f} Td ({escaped}) Tj ET"
