"""What a file is, told from its first bytes; names and declared types are never asked."""

from __future__ import annotations

import codecs
import re
from typing import Literal, NamedTuple

from btoks.media.source import MediaError

Family = Literal["text", "image", "video", "pdf"]
HEAD = 4096
"""As many first bytes tell what a file is."""


class Format(NamedTuple):
    """A family, and the one decoder that may open the content: a Pillow format, an FFmpeg demuxer or an encoding."""

    family: Family
    decoder: str


_MAGIC: tuple[tuple[bytes, Family, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image", "PNG"),
    (b"\xff\xd8\xff", "image", "JPEG"),
    (b"GIF87a", "image", "GIF"),
    (b"GIF89a", "image", "GIF"),
    (b"BM", "image", "BMP"),
    (b"II*\0", "image", "TIFF"),
    (b"MM\0*", "image", "TIFF"),
    (b"II+\0", "image", "TIFF"),
    (b"MM\0+", "image", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "image", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "image", "JPEG2000"),
    (b"\x1a\x45\xdf\xa3", "video", "matroska"),
    (b"FLV\x01", "video", "flv"),
    (b"OggS", "video", "ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video", "asf"),
    (b"DKIF", "video", "ivf"),
    (b"YUV4MPEG2 ", "video", "yuv4mpegpipe"),
    (b"\0\0\x01\xba", "video", "mpeg"),
    (b"\0\0\x01\xb3", "video", "mpegvideo"),
    (b"\0\0\0\x01\x67", "video", "h264"),
    (b"\0\0\x01\x67", "video", "h264"),
    (b"\0\0\0\x01\x09", "video", "h264"),
    (b"\0\0\0\x01\x40\x01", "video", "hevc"),
)
_MOV_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_PNM = re.compile(rb"P[456]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")
_SYNC, _PACKETS = 0x47, ((188, 0), (192, 4))


def sniff(head: bytes, name: str) -> Format:
    """The format of a file that begins with `head`; MediaError where it is none that can be opened.

    >>> sniff(b"%PDF-1.7", "report.doc")
    Format(family='pdf', decoder='pdfium')
    """
    for magic, family, decoder in _MAGIC:
        if head.startswith(magic) and not (decoder == "BMP" and b"\0" not in head[:14]):
            return Format(family, decoder)
    if head[:4] == b"RIFF":
        if head[8:12] == b"WEBP":
            return Format("image", "WEBP")
        if head[8:12] == b"AVI ":
            return Format("video", "avi")
    # Words such as "free" and "wide" stand at the fifth letter of many a text, but no text holds a zero byte.
    binary = b"\0" in head
    if binary and head[4:8] == b"ftyp":
        return _iso_brand(head, name)
    if binary and head[4:8] in _MOV_ATOMS:
        return Format("video", "mov")
    if _PNM.match(head):
        return Format("image", "PPM")
    # Readers of PDF accept a little rubbish before the header.
    if b"%PDF-" in head[:1024]:
        return Format("pdf", "pdfium")
    for size, skip in _PACKETS:
        if binary and len(head) >= 3 * size and all(head[skip + packet * size] == _SYNC for packet in range(3)):
            return Format("video", "mpegts")
    return Format("text", _encoding(head, name))


def _iso_brand(head: bytes, name: str) -> Format:
    brands = head[8 : int.from_bytes(head[:4], "big")]
    if b"avif" in brands or b"avis" in brands:
        return Format("image", "AVIF")
    if brands[:4] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
        raise MediaError(name, "HEIC pictures cannot be decoded", "save it as JPEG or PNG")
    return Format("video", "mov")


def _encoding(head: bytes, name: str) -> str:
    for bom, encoding in _BOMS:
        if head.startswith(bom) and not head.startswith(codecs.BOM_UTF32_LE):
            return encoding
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head[:HEAD])
    except UnicodeDecodeError:
        text = "\0"
    controls = sum(character < " " and character not in "\t\n\v\f\r\b\x1b" for character in text)
    if "\0" in text or controls * 20 > len(text):
        reason = f"is neither UTF-8 text nor a picture, video or PDF (it begins with {head[:8].hex(' ')})"
        raise MediaError(name, reason, "convert it, or skip it")
    return "utf-8"
