"""Which frames of a video are kept, and how they are laid into one array with their true times."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks.media.source import Item, Limits, MediaError, Source, VideoMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Timeline:
    """When each native frame is shown: `ticks · tick` seconds, from 0 up; `rate` is the declared one, if any."""

    ticks: Sequence[int]
    tick: Fraction
    rate: Fraction | None
    duration: Fraction

    def at(self, seconds: float | Fraction) -> Fraction:
        """A time in ticks; 0.8 is taken as 4/5, not as the binary fraction just above it, which would add a frame."""
        return Fraction(seconds).limit_denominator(1_000_000) / self.tick


def uniform(total: int, frames: int) -> list[int]:
    """`frames` of `total` positions from the first to the last; all of them where there are no more.

    >>> uniform(10, 4), uniform(3, 8)
    ([0, 3, 6, 9], [0, 1, 2])
    """
    if total <= frames:
        return list(range(total))
    return [i * (total - 1) // (frames - 1) for i in range(frames)] if frames > 1 else [0]


def choose(timeline: Timeline, source: Source, limits: Limits) -> list[int]:
    """Positions of the frames to keep, within the clip (start ≤ t < end, or else the nearest frame)."""
    first, last = _clip(timeline, source)
    if limits.fps is None:
        return [first + index for index in uniform(last - first, limits.frames)]
    shown = _at_rate(timeline, source, first, last, Fraction(limits.fps))
    return [shown[index] for index in uniform(len(shown), limits.max_frames)]


def _at_rate(timeline: Timeline, source: Source, first: int, last: int, fps: Fraction) -> list[int]:
    """The frames on screen at the clip's begin and every 1/fps after it."""
    ticks, step = timeline.ticks, 1 / (fps * timeline.tick)
    begin = max(timeline.at(source.start or 0), Fraction(ticks[first]))
    shown = [first]
    for index in range(first + 1, last):
        until = ticks[index + 1] if index + 1 < len(ticks) else timeline.at(timeline.duration)
        if source.end is not None:
            until = min(until, timeline.at(source.end))
        if begin + math.ceil((ticks[index] - begin) / step) * step < until:
            shown.append(index)
    return shown


def _clip(timeline: Timeline, source: Source) -> tuple[int, int]:
    if source.start is not None and source.start >= timeline.duration:
        reason = f"lasts {float(timeline.duration):.2f} s, so no clip starts at {source.start} s"
        raise MediaError(source.name, reason, "choose an earlier start")
    ticks = timeline.ticks
    first = 0 if source.start is None else bisect_left(ticks, timeline.at(source.start))
    last = len(ticks) if source.end is None else bisect_left(ticks, timeline.at(source.end))
    if first < last:
        return first, last
    middle = timeline.at(((source.start or 0) + (source.end or source.start or 0)) / 2)
    nearest = min(range(max(first - 1, 0), min(first + 1, len(ticks))), key=lambda index: abs(ticks[index] - middle))
    return nearest, nearest + 1


def fitting(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size scaled down so that no side exceeds `longest`.

    >>> fitting(1920, 1080, 1280), fitting(64, 48, 1280)
    ((1280, 720), (64, 48))
    """
    side = max(width, height)
    if side <= longest:
        return width, height
    return max(1, round(width * longest / side)), max(1, round(height * longest / side))


def assemble(
    frames: Iterable[Pixels], kept: Sequence[int], timeline: Timeline, sizes: Sequence[tuple[int, int]], limits: Limits
) -> Item:
    """The kept frames as one video; a frame of another size than the first is brought to the first's.

    `sizes` holds the native size at least of the first once `frames` is read.
    """
    array: Pixels | None = None
    target, count = (0, 0), 0
    for count, pixels in enumerate(frames, 1):
        here = (pixels.shape[1], pixels.shape[0])
        if array is None:
            target = fitting(*here, limits.max_side)
            array = np.empty((len(kept), target[1], target[0], 3), np.uint8)
        if here != target:
            pixels = np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.BICUBIC))
        array[count - 1] = pixels
    if array is None or count != len(kept):
        raise ValueError(f"{count} of {len(kept)} chosen frames could be decoded")
    return {"video": {"array": array, "video_metadata": describe(timeline, kept, sizes[0])}}


def describe(timeline: Timeline, kept: Sequence[int], size: tuple[int, int]) -> VideoMetadata:
    """Metadata under which `frames_indices / fps` is the time at which each kept frame is shown.

    With a constant rate these are the frame's own number and the native rate. Otherwise time is counted on the coarsest
    grid that holds every frame, with `fps` its density: indices are then places on the grid.
    """
    fps, indices, total = _native_grid(timeline, kept) or _common_grid(timeline, kept)
    return {
        "fps": float(fps),
        "total_num_frames": total,
        "duration": float(total / fps),
        "frames_indices": indices,
        "width": size[0],
        "height": size[1],
    }


def _native_grid(timeline: Timeline, kept: Sequence[int]) -> tuple[Fraction, list[int], int] | None:
    ticks = timeline.ticks
    measured = (len(ticks) - 1) / (ticks[-1] * timeline.tick) if len(ticks) > 1 else None
    # Containers round times to their tick, Matroska to whole milliseconds.
    slack = max(timeline.tick, Fraction(1, 1000))
    for rate in (timeline.rate, measured):
        if rate and all(abs(index / rate - ticks[index] * timeline.tick) <= slack for index in kept):
            return rate, list(kept), len(ticks)
    return None


def _common_grid(timeline: Timeline, kept: Sequence[int]) -> tuple[Fraction, list[int], int]:
    whole = round(timeline.duration / timeline.tick)
    grid = math.gcd(*timeline.ticks, whole) or 1
    total = max(whole, timeline.ticks[-1] + 1) // grid
    return 1 / (timeline.tick * grid), [timeline.ticks[index] // grid for index in kept], total
