"""Text files: UTF-8, or UTF-16 with a byte order mark; every character stays as it is."""

from __future__ import annotations

from typing import IO

from btoks.media.source import Item, Limits, MediaError

_WIDEST = 4
"""Bytes that one character takes at most, in UTF-8 and in UTF-16."""


def load_text(file: IO[bytes], name: str, encoding: str, limits: Limits) -> Item:
    """The whole text; refused when it is longer than `max_text` or not in its encoding."""
    raw = file.read((limits.max_text + 1) * _WIDEST)
    try:
        text = "" if file.read(1) else raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise MediaError(name, f"is not {encoding} text at byte {error.start}", "save it as UTF-8") from error
    if not text or len(text) > limits.max_text:
        raise MediaError(name, f"is longer than max_text={limits.max_text} characters", "split it or raise max_text")
    if "\0" in text:
        raise MediaError(name, "is a text with zero bytes in it", "remove them, or skip it")
    return {"text": text}
