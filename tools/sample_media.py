"""Encoders of the sample's pictures and clips: small files, and the same bytes for the same input."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_jpeg(picture: Path, *, longest: int = 240, quality: int = 80) -> bytes:
    """The picture as JPEG, shrunk to `longest` pixels on its longer side, without any metadata."""
    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def write_png(picture: Path) -> bytes:
    """A drawing as PNG on white; a palette of 128 colours keeps it small."""
    with Image.open(picture) as image:
        rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    buffer = io.BytesIO()
    flat.quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_mp4(frames: Sequence[Image.Image], *, fps: int, crf: int = 28) -> bytes:
    """The frames as H.264 (yuv420p), cut to even sides as that format asks; the same frames give the same bytes.

    x264's assembly lets a few bits depend on stale memory at sizes as small as these; its plain C code does not.
    """
    options = {"crf": str(crf), "preset": "slow", "x264-params": "asm=0"}
    width, height = (side - side % 2 for side in frames[0].size)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, fps)
        for picture in frames:
            frame = av.VideoFrame.from_image(picture.convert("RGB").crop((0, 0, width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
