"""Videos through PyAV: the packets tell which frames there are, and only what leads to a kept one is decoded."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

import av
import numpy as np

from btoks.media.frames import Pixels, Timeline, assemble, choose, fitting
from btoks.media.source import Item, Limits, MediaError, Source, check, check_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INDEXED = ("mov", "matroska")
"""Containers whose packets carry presentation times and whose seeks land on a keyframe; others are read through."""
_ASSUMED_RATE = Fraction(25)
_HIGHEST_RATE = 1000


@dataclass(frozen=True)
class _Plan:
    """Presentation times (pts) of all frames, in order, and per keyframe its time and where to seek for it."""

    times: Sequence[int]
    keys: Sequence[tuple[int, int]]


class _MissingFrameError(Exception):
    """A frame that the packets announced did not come out of the decoder."""


def load_video(file: IO[bytes], source: Source, decoder: str, limits: Limits) -> Item:
    """The chosen frames of the first real video stream, with their native numbers and times."""
    check(source, timed=True)
    if decoder in _INDEXED:
        with _opened(file, source.name, decoder, limits) as (container, stream):
            plan = _plan(container, stream, decoder)
        if plan is not None:
            try:
                return _load(file, source, decoder, limits, plan)
            except _MissingFrameError:
                pass
    with _opened(file, source.name, decoder, limits) as (container, stream):
        times = [frame.pts for frame in _decoded(container, stream)]
    return _load(file, source, decoder, limits, times)


@contextmanager
def _opened(file: IO[bytes], name: str, decoder: str, limits: Limits) -> Iterator[tuple[Any, Any]]:
    file.seek(0)
    # A container may name further files or addresses; with no protocol allowed nothing but `file` is ever read.
    options = {"protocol_whitelist": "", "max_pixels": str(limits.max_pixels)}
    with av.open(file, format=decoder, options=options, metadata_errors="replace") as container:
        streams = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not streams:
            others = ", ".join(f"{stream.type} {stream.codec_context.name}" for stream in container.streams.audio)
            raise MediaError(name, f"no video stream (found {others or 'none'})", "pass a file with one, or skip it")
        stream = streams[0]
        check_pixels(name, stream.codec_context.width, stream.codec_context.height, limits)
        # More threads would add their stacks and buffers to the worker's memory, and damaged files would differ by run.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        yield container, stream


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Every frame that decodes; a damaged packet costs its own frames, a damaged container all after it."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except av.FFmpegError:
            packet = None
        try:
            yield from stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except (av.FFmpegError, EOFError):
            pass
        if packet is None:
            return


def _plan(container: Any, stream: Any, decoder: str) -> _Plan | None:
    """The frames as the packets announce them, or None where they do not tell."""
    times, keys = [], []
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard or _is_hidden(packet, stream):
                continue
            # The index of an MP4 counts in decoding times, that of a Matroska file in presentation times.
            place = packet.dts if decoder == "mov" else packet.pts
            if packet.pts is None or place is None or packet.is_corrupt:
                return None
            times.append(packet.pts)
            if packet.is_keyframe:
                keys.append((packet.pts, place))
    except av.FFmpegError:
        return None
    times.sort()
    if not times or any(a == b for a, b in pairwise(times)):
        return None
    return _Plan(times, sorted(keys))


def _is_hidden(packet: Any, stream: Any) -> bool:
    """VP8 keeps reference frames that are never shown in packets of their own, marked in their first byte."""
    return stream.codec_context.name.endswith("vp8") and not bytes(packet)[0] >> 4 & 1


def _load(file: IO[bytes], source: Source, decoder: str, limits: Limits, plan: _Plan | list[int | None]) -> Item:
    with _opened(file, source.name, decoder, limits) as (container, stream):
        timeline = _timeline(stream, plan.times if isinstance(plan, _Plan) else plan)
        kept = choose(timeline, source, limits)
        if isinstance(plan, _Plan):
            frames = _sought(container, stream, [plan.times[index] for index in kept], plan.keys)
        else:
            wanted = set(kept)
            frames = (frame for index, frame in enumerate(_decoded(container, stream)) if index in wanted)
        sizes: list[tuple[int, int]] = []
        return assemble((_pixels(frame, limits, sizes) for frame in frames), kept, timeline, sizes, limits)


def _timeline(stream: Any, times: Sequence[int | None]) -> Timeline:
    if not times:
        raise ValueError("no frame can be decoded")
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0 < rate <= _HIGHEST_RATE:
        rate = None
    known = [time for time in times if time is not None]
    if len(known) < len(times) or any(a >= b for a, b in pairwise(known)) or not stream.time_base:
        rate = rate or _ASSUMED_RATE
        return Timeline(range(len(times)), 1 / rate, rate, len(times) / rate)
    ticks, tick = [time - known[0] for time in known], stream.time_base
    step = 1 / rate if rate else ticks[-1] * tick / max(len(ticks) - 1, 1) or 1 / _ASSUMED_RATE
    return Timeline(ticks, tick, rate, ticks[-1] * tick + step)


def _sought(container: Any, stream: Any, wanted: Sequence[int], keys: Sequence[tuple[int, int]]) -> Iterator[Any]:
    """The frames at the wanted times, each decoded from the last keyframe before it."""
    frames, reached = _decoded(container, stream), None
    for time in wanted:
        key = bisect_right(keys, time, key=lambda entry: entry[0]) - 1
        if key > 0 and (reached is None or keys[key][0] > reached):
            container.seek(keys[key][1], stream=stream)
            frames = _decoded(container, stream)
        for frame in frames:
            reached = frame.pts
            if reached is None or reached >= time:
                break
        if reached != time:
            raise _MissingFrameError
        yield frame


def _pixels(frame: Any, limits: Limits, sizes: list[tuple[int, int]]) -> Pixels:
    """One frame as upright RGB, scaled down to `max_side`; its native upright size is added to `sizes`."""
    width, height = fitting(frame.width, frame.height, limits.max_side)
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = round(frame.rotation / 90) % 4
    sizes.append((frame.height, frame.width) if turns % 2 else (frame.width, frame.height))
    return np.rot90(pixels, turns)
