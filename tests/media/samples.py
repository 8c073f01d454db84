"""One tiny file of each kind, made on the spot; every video frame spells its number, readable after compression."""

from __future__ import annotations

import hashlib
import io
import struct
from fractions import Fraction
from functools import cache

import av
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 48


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A frame that spells `number` in eight vertical black or white bars, on red (even) or blue (odd) below them."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for bit in range(8):
        pixels[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
    pixels[height // 2 :, :, 2 * (number % 2)] = 255
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """The number a frame spells."""
    height, width = pixels.shape[:2]
    bars = [pixels[height // 4, bit * width // 8 + width // 16].mean() > 127 for bit in range(8)]
    return sum(int(bar) << bit for bit, bar in enumerate(bars))


def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A picture that is not symmetric in any way: a red top left corner, a gradient elsewhere."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 60)], -1).astype(np.uint8)
    pixels[: height // 3, : width // 3] = (255, 0, 0)
    return Image.fromarray(pixels)


def image_bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str, delays: list[int], **options: object) -> bytes:
    """A GIF, WEBP or PNG with one numbered frame a delay (in ms)."""
    frames = [Image.fromarray(numbered(number)) for number in range(len(delays))]
    options |= {"lossless": True} if kind == "WEBP" else {"disposal": 1}
    return image_bytes(frames[0], kind, save_all=True, append_images=frames[1:], duration=delays, loop=0, **options)


def video(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 24,
    rate: int = 12,
    times: list[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    turn: int = 0,
) -> bytes:
    """A video of numbered frames; `times` in ms instead of a constant rate."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, options={"g": "6", "threads": "1", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if turn:
            stream.set_display_rotation(turn)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(len(times) if times is not None else frames):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def audio() -> bytes:
    """An MP4 with sound only."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def pdf(
    pages: int = 3, *, text: str = "Page {} of the sample", box: str = "0 0 200 100", password: bytes | None = None
) -> bytes:
    """A PDF whose page n is a drawing with `text` in lines; with a password marked as encrypted (40-bit RC4)."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(pages))
    objects += [f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    objects += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for page in range(pages):
        lines = text.format(page + 1).split("\n")
        words = "BT /F1 12 Tf 20 80 Td " + " 0 -14 Td ".join(f"({line}) Tj" for line in lines) + " ET" if text else ""
        stream = f"1 0 0 rg 0 0 {20 * (page + 1)} 20 re f 0 g {words}"
        resources = "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {5 + 2 * page} 0 R {resources} >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    trailer = f"/Size {len(objects) + 1} /Root 1 0 R"
    if password is not None:
        objects.append(_encryption(password))
        trailer = f"/Size {len(objects) + 1} /Root 1 0 R /Encrypt {len(objects)} 0 R /ID [<{'00' * 16}> <{'00' * 16}>]"
    return _pdf_file(objects, trailer)


def _pdf_file(objects: list[str], trailer: str) -> bytes:
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< {trailer} >>\n"
    return body + f"{head}startxref\n{len(body)}\n%%EOF\n".encode()


def _encryption(password: bytes) -> str:
    padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    padded = (password + padding)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + struct.pack("<i", -4) + bytes(16)).digest()[:5]
    return f"<< /Filter /Standard /V 1 /R 2 /O <{owner.hex()}> /U <{_rc4(key, padding).hex()}> /P -4 >>"


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def turned_jpeg(orientation: int = 6) -> bytes:
    """A JPEG that is upright only once its EXIF orientation is applied."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image_bytes(photo().transpose(undo[orientation]), "JPEG", quality=95, exif=exif)


@cache
def samples() -> dict[str, bytes]:
    """A small file of each kind, by a name."""
    deep = Image.fromarray((np.mgrid[:HEIGHT, :WIDTH][1] * 1000).astype(np.uint16))
    return {
        "png": image_bytes(photo(), "PNG"),
        "jpeg_exif": turned_jpeg(),
        "jpeg_cmyk": image_bytes(photo().convert("CMYK"), "JPEG"),
        "png_16bit": image_bytes(deep, "PNG"),
        "gif_palette": image_bytes(photo().quantize(16), "GIF"),
        "gif_animated": animation("GIF", [50, 120, 50, 200, 70]),
        "webp": image_bytes(photo(), "WEBP"),
        "webp_animated": animation("WEBP", [50, 120, 50, 200, 70]),
        "apng": animation("PNG", [50, 120, 50, 200, 70]),
        "tiff": image_bytes(photo(), "TIFF"),
        "mp4": video(),
        "webm": video("webm", "libvpx"),
        "mkv": video("matroska"),
        "ts": video("mpegts"),
        "avi": video("avi", "mpeg4"),
        "h264": video("h264"),
        "pdf": pdf(),
        "pdf_page": pdf(1),
        "pdf_encrypted": pdf(1, password=b"secret"),
        "txt": "Grüße aus Köln.\r\nZweite Zeile".encode(),
        "utf16": "Grüße aus Köln".encode("utf-16"),
        "html": b"<!doctype html><html><body><p>Hello</p></body></html>",
    }
