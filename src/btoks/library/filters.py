"""Filters: SQL conditions over a library's columns, as `btoks search --filter` and `where=` take them."""

from __future__ import annotations

import re

from btoks.errors import BtoksError, did_you_mean

_QUOTED = re.compile(r"('(?:[^']|'')*')")
_FOLDER_LIKE = re.compile(r"\bfolder\s+(not\s+)?(i?like)\s+('(?:[^']|'')*')", re.IGNORECASE)
_UNKNOWN = re.compile(r"No field named \"?(\w+)")
_SCORE = re.compile(r"\bscore\b", re.IGNORECASE)


def quoted(value: str) -> str:
    """A text as SQL writes it.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + value.replace("'", "''") + "'"


def one_of(column: str, values: list[str]) -> str:
    """The condition that a column has one of some values."""
    return f"{column} IN ({', '.join(map(quoted, values))})"


def both(one: str | None, other: str | None) -> str | None:
    """The condition that both hold; None is no condition."""
    return f"({one}) AND ({other})" if one and other else one or other


def of_kind(where: str | None, kind: str | None) -> str | None:
    """The condition that a row is of a kind, too."""
    return where if kind is None else both(where, f"kind = {quoted(kind)}")


def prepared(where: str | None) -> str | None:
    """The condition as the store takes it: `folder like 'trips/%'` also means the folder `trips` itself.

    >>> prepared("folder like 'trips/%'")
    "(folder LIKE 'trips/%' OR concat(folder, '/') LIKE 'trips/%')"
    """
    if where is None or not where.strip():
        return None
    if any(_SCORE.search(part) for part in _QUOTED.split(where)[::2]):
        raise BtoksError(f"filter {where!r}", "a score belongs to a query, not to a row", "give it as the least score")
    return _FOLDER_LIKE.sub(_with_itself, where)


def _with_itself(found: re.Match[str]) -> str:
    negated, like, pattern = found.groups()
    either = f"(folder {like.upper()} {pattern} OR concat(folder, '/') {like.upper()} {pattern})"
    return f"NOT {either}" if negated else either


def refusal(where: str, message: str, columns: list[str]) -> BtoksError:
    """What is wrong with a condition that the store has refused."""
    unknown = _UNKNOWN.search(message)
    if unknown:
        return BtoksError(f"filter {where!r}", f"no column {unknown[1]!r}", did_you_mean(unknown[1], columns))
    return BtoksError(
        f"filter {where!r}", "it is no condition", "write one such as \"kind = 'image' and year >= 2020\""
    )
