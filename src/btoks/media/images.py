"""Pictures: every mode Pillow reads becomes upright RGB on white; animations become videos with true times."""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks.media.frames import Timeline, assemble, choose
from btoks.media.source import Item, Limits, MediaError, Source, check, check_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

_STRIP = 256
"""Rows converted at a time: a whole second copy in between would double the memory of a large picture."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_ALTOGETHER = 4
"""How many times `max_pixels` all frames together may have: each must be decoded in full to reach the next."""
_STILL_DELAY = 100
"""Milliseconds that browsers show a frame whose delay is 0."""


@contextmanager
def opened_image(file: IO[bytes], name: str, decoder: str, limits: Limits) -> Iterator[Image.Image]:
    """The picture, its size checked, nothing decoded yet."""
    try:
        opened = Image.open(file, formats=[decoder])
    except Image.DecompressionBombError as error:
        raise MediaError(name, "has more pixels than Pillow opens, whatever max_pixels is", "shrink it") from error
    with opened as image:
        check_pixels(name, image.width, image.height, limits)
        yield image


def is_animation(image: Image.Image) -> bool:
    """Whether a file holds more than one frame of an animation; pages of a TIFF are none."""
    return image.format in _ANIMATED and bool(getattr(image, "is_animated", False))


def load_image(file: IO[bytes], source: Source, decoder: str, limits: Limits) -> Item:
    """A still picture as an image, an animation as a video."""
    with opened_image(file, source.name, decoder, limits) as image:
        if is_animation(image):
            return _load_animation(image, source, limits)
        check(source)
        return {"image": upright_rgb(image)}


def upright_rgb(image: Image.Image) -> Image.Image:
    """A new RGB picture: transparent parts on white, deep ones at 8 bits, turned as its EXIF says."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block does not spoil the picture beside it
        turn = None
    image.load()
    rgb = _rgb(image)
    return rgb.transpose(turn) if turn is not None else rgb


def _rgb(image: Image.Image) -> Image.Image:
    low, high = _levels(image)
    rgb = Image.new("RGB", image.size, "white")
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        if high:
            values = (np.asarray(strip).astype(np.float64) - low) * (256 / (high - low))
            strip = Image.fromarray(np.nan_to_num(values).clip(0, 255).astype(np.uint8))
        if strip.has_transparency_data:
            strip = strip.convert("RGBA")
            rgb.paste(strip.convert("RGB"), (0, top), strip)
        else:
            rgb.paste(strip.convert("RGB"), (0, top))
    return rgb


def _levels(image: Image.Image) -> tuple[float, float]:
    """Black, and the value one above white, of a picture deeper than 8 bits; (0, 0) for all others."""
    if image.mode.startswith("I;16"):
        return 0, 1 << 16
    if image.mode not in ("I", "F"):
        return 0, 0
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    for white in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
        if low >= 0 and high <= white:
            low, high = 0, white
            break
    return low, low + (high - low or 1) * (256 / 255 if image.mode == "F" else 1) + (image.mode == "I")


def from_array(array: np.ndarray[Any, Any], name: str, limits: Limits) -> Image.Image:
    """A picture from (H, W) or (H, W, C) numbers: 8 or 16 bits, truth values, or floats from 0 to 1."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
        raise MediaError(name, f"the shape {array.shape} is no picture", "pass (H, W) or (H, W, 1 to 4), channels last")
    check_pixels(name, array.shape[1], array.shape[0], limits)
    pixels = np.ascontiguousarray(_eight_bits(array, name))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return _rgb(Image.frombytes(mode, (array.shape[1], array.shape[0]), pixels.tobytes()))


def _eight_bits(array: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.size and array.min() >= 0 and array.max() <= 1):
            raise MediaError(name, "its float values are not within 0 and 1", "scale them, or pass uint8")
        return (array * 255 + 0.5).astype(np.uint8)
    raise MediaError(
        name, f"pixels of type {array.dtype} are not known", "pass uint8, uint16, bool or floats in [0, 1]"
    )


def _load_animation(image: Image.Image, source: Source, limits: Limits) -> Item:
    check(source, timed=True)
    starts: list[int] = []
    total = 0
    most = _ALTOGETHER * limits.max_pixels // (image.width * image.height)
    for _ in _frames(image):
        if len(starts) == most:
            reason = f"more than {most} frames of {image.width}x{image.height} exceed {_ALTOGETHER} times max_pixels"
            raise MediaError(source.name, reason, "turn it into a video file or raise max_pixels")
        starts.append(total)
        total += round(image.info.get("duration") or 0) or _STILL_DELAY
    timeline = Timeline(starts, Fraction(1, 1000), None, Fraction(total, 1000))
    kept = choose(timeline, source, limits)
    wanted = set(kept)
    chosen = (np.asarray(upright_rgb(frame)) for index, frame in enumerate(_frames(image)) if index in wanted)
    return assemble(chosen, kept, timeline, [image.size], limits)


def _frames(image: Image.Image) -> Iterator[Image.Image]:
    """All frames in order, up to the first that is broken or missing; the picture a PNG shows instead is no frame."""
    number = first = int(bool(image.info.get("default_image")))
    while True:
        try:
            image.seek(number)
            image.load()
        except Exception:
            if number == first:
                raise
            return
        yield image
        number += 1
