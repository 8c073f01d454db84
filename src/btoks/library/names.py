"""Paths as text: any name a disk can hold, also one that is not UTF-8, in a form that a table holds and gives back."""

from __future__ import annotations

import re

_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile("\0([0-9a-f]{2})")


def to_text(path: str) -> str:
    """The path with every byte that is no UTF-8 written as a zero byte and two digits; no path holds a zero byte.

    >>> to_text("caf\\udce9")
    'caf\\x00e9'
    """
    text = _BYTE.sub(lambda found: f"\0{ord(found[0]) - 0xDC00:02x}", path)
    return text.encode("utf-8", "replace").decode()


def from_text(text: str) -> str:
    """The path as the system functions take it.

    >>> from_text(to_text("caf\\udce9")) == "caf\\udce9"
    True
    """
    return _ESCAPED.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text)


def shown(path: str) -> str:
    """The path for people and messages: bytes that are no UTF-8 as question marks.

    >>> shown("caf\\udce9")
    'caf?'
    """
    return from_text(path).encode("utf-8", "replace").decode()
