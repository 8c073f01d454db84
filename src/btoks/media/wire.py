"""How sources and items travel between a process and its decoder: JSON and raw buffers, nothing that could run code.

    ┌ 4 bytes ┬ JSON header, "buffers": [n₀, n₁, …] ┬ n₀ bytes ┬ n₁ bytes ┬ …
    │ length  │
Whatever comes from the worker is checked: it has read files that may have been made to take it over.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from btoks.media.sniff import Family
from btoks.media.source import Item, Limits, Source, VideoMetadata, scheme_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

Header = dict[str, Any]
Question = Literal["load", "kind", "page_count"]
Buffer = bytes | bytearray | memoryview
_LONGEST_HEADER = 1 << 26


def send(connection: socket.socket, header: Header, buffers: Sequence[Buffer] = (), deadline: float = math.inf) -> None:
    """Write one message; TimeoutError after the deadline (of `time.monotonic`)."""
    head = json.dumps({**header, "buffers": [len(buffer) for buffer in buffers]}).encode()
    for part in (struct.pack("!I", len(head)), head, *buffers):
        _set_deadline(connection, deadline)
        connection.sendall(part)


def receive(
    connection: socket.socket, most: float = math.inf, deadline: float = math.inf
) -> tuple[Header, list[bytearray]]:
    """Read one message of at most `most` bytes; EOFError where the other side has gone, ValueError where it lies."""
    (length,) = struct.unpack("!I", _exactly(connection, 4, deadline))
    if length > _LONGEST_HEADER:
        raise ValueError("header too long")
    header = json.loads(_exactly(connection, length, deadline))
    sizes = header.pop("buffers") if isinstance(header, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes) or sum(sizes) > most:
        raise ValueError("buffers too large")
    return header, [_exactly(connection, size, deadline) for size in sizes]


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytearray:
    data = bytearray(size)
    view, have = memoryview(data), 0
    while have < size:
        _set_deadline(connection, deadline)
        got = connection.recv_into(view[have:])
        if not got:
            raise EOFError
        have += got
    return data


def _set_deadline(connection: socket.socket, deadline: float) -> None:
    connection.settimeout(None if deadline == math.inf else max(deadline - time.monotonic(), 1e-3))


def pack_question(question: Question, source: Source) -> tuple[Header, list[Buffer]]:
    """A question about a path, URL or bytes; paths become absolute, for the other side may stand elsewhere."""
    header: Header = {"question": question, "page": source.page, "start": source.start, "end": source.end}
    if isinstance(source.uri, bytes):
        return header, [source.uri]
    if isinstance(source.uri, str) and scheme_of(source.uri) is not None:
        return {**header, "uri": source.uri}, []
    if isinstance(source.uri, str | Path):
        # Path.resolve would follow links, and fail on some that cannot be opened.
        return {**header, "uri": os.path.abspath(source.uri)}, []  # noqa: PTH100
    raise TypeError(f"a {type(source.uri).__name__} does not travel")


def unpack_question(header: Header, buffers: Sequence[bytearray]) -> tuple[Question, Source]:
    """The question that `pack_question` packed."""
    uri = bytes(buffers[0]) if buffers else header["uri"]
    return header["question"], Source(uri, header["page"], header["start"], header["end"])


def unpack_kind(header: Header, buffers: Sequence[bytearray]) -> Family:
    """The answer to "kind"."""
    value: Family = header["value"]
    if buffers or value not in get_args(Family):
        raise ValueError("not a kind")
    return value


def unpack_count(header: Header, buffers: Sequence[bytearray]) -> int:
    """The answer to "page_count"."""
    value = header["value"]
    if buffers or type(value) is not int or value < 1:
        raise ValueError("not a count")
    return value


def pack_item(item: Item) -> tuple[Header, list[Buffer]]:
    """A decoded item as header and buffers, in the order text, image, video."""
    header: Header = {}
    buffers: list[Buffer] = []
    if "text" in item:
        header["text"] = True
        buffers.append(item["text"].encode())
    if "image" in item:
        header["image"] = item["image"].size
        buffers.append(item["image"].tobytes())
    if "video" in item:
        header["video"] = item["video"]["video_metadata"]
        header["shape"] = item["video"]["array"].shape
        buffers.append(item["video"]["array"].data.cast("B"))
    return header, buffers


def unpack_item(header: Header, buffers: Sequence[bytearray]) -> Item:
    """The item that `pack_item` packed; ValueError, TypeError or KeyError where the message is no such item."""
    rest = list(buffers)
    item: Item = {}
    if "text" in header:
        item["text"] = rest.pop(0).decode()
    if "image" in header:
        width, height = _sizes(header["image"], 2)
        item["image"] = Image.frombytes("RGB", (width, height), rest.pop(0))
    if "video" in header:
        shape = _sizes(header["shape"], 4)
        array = np.frombuffer(rest.pop(0), np.uint8).reshape(shape)
        item["video"] = {"array": array, "video_metadata": _metadata(header["video"], shape[0])}
    if rest or not item:
        raise ValueError("not an item")
    return item


def _sizes(value: object, count: int) -> list[int]:
    if not isinstance(value, list) or len(value) != count or not all(type(size) is int and size > 0 for size in value):
        raise ValueError("not a shape")
    return value


def _metadata(value: dict[str, Any], frames: int) -> VideoMetadata:
    indices = [int(index) for index in value["frames_indices"]]
    fps, duration = float(value["fps"]), float(value["duration"])
    if len(indices) != frames or not (0 < fps < math.inf and 0 <= duration < math.inf):
        raise ValueError("not the metadata of a video")
    return {
        "fps": fps,
        "total_num_frames": int(value["total_num_frames"]),
        "duration": duration,
        "frames_indices": indices,
        "width": int(value["width"]),
        "height": int(value["height"]),
    }


def pack_limits(limits: Limits) -> Header:
    """Limits as a header."""
    return asdict(limits)


def unpack_limits(header: Header) -> Limits:
    """The limits that `pack_limits` packed."""
    return Limits(**{**header, "schemes": tuple(header["schemes"])})
