"""Conditions in SQL as filters of Qdrant's: comparisons, IN, BETWEEN, IS NULL, folders by LIKE, with AND, OR and NOT.

A comparison with what a row lacks is never true, nor is its negation: as in SQL, so every leaf asks for the value too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError, did_you_mean
from btoks.library import filters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ABOVE = "above"
"""The field that holds a row's folder and all those above it."""
_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(-?\d+(?:\.\d+)?)|([A-Za-z_]\w*)|(<=|>=|!=|<>|[=<>(),]))")
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def filter_of(where: str, columns: Sequence[str]) -> Any:
    """The filter that a condition stands for; refused is what Qdrant cannot answer."""
    return _Parser(where, columns).whole()


class _Parser:
    """Reads a condition from left to right; a negation is handed down to the comparisons."""

    def __init__(self, where: str, columns: Sequence[str]) -> None:
        from qdrant_client import models

        self._where, self._columns = where, columns
        self._models: Any = models
        self._tokens, self._at = list(self._split()), 0

    def whole(self) -> Any:
        """The filter of the whole condition."""
        found = self._any(negated=False)
        if self._at < len(self._tokens):
            raise self._bad()
        return found

    def _split(self) -> Any:
        at, end = 0, len(self._where.rstrip())
        while at < end:
            found = _TOKEN.match(self._where, at)
            if found is None:
                raise self._bad()
            at = found.end()
            yield found

    def _bad(self, reason: str = "Qdrant's store knows no such condition") -> BtoksError:
        way_out = "write one such as \"kind = 'image' and year >= 2020 and folder like 'trips/%'\""
        return BtoksError(f"filter {self._where!r}", reason, way_out)

    def _taken(self, *wanted: str) -> str | None:
        """The next word or sign, if it is one of these."""
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            text = str(token[3] or token[4] or "").upper()
            if text in wanted:
                self._at += 1
                return text
        return None

    def _need(self, wanted: str) -> None:
        if self._taken(wanted) is None:
            raise self._bad()

    def _any(self, *, negated: bool) -> Any:
        return self._joined("OR", self._all, negated=negated)

    def _all(self, *, negated: bool) -> Any:
        return self._joined("AND", self._one, negated=negated)

    def _joined(self, word: str, below: Callable[..., Any], *, negated: bool) -> Any:
        found = [below(negated=negated)]
        while self._taken(word):
            found.append(below(negated=negated))
        if len(found) == 1:
            return found[0]
        return self._models.Filter(**{"must" if (word == "AND") != negated else "should": found})

    def _one(self, *, negated: bool) -> Any:
        if self._taken("NOT"):
            return self._one(negated=not negated)
        if self._taken("("):
            found = self._any(negated=negated)
            self._need(")")
            return found
        column = self._column()
        if self._taken("IS"):
            negated ^= self._taken("NOT") is not None
            self._need("NULL")
            return self._leaf(self._empty(column), negated=negated)
        negated ^= self._taken("NOT") is not None
        found, opposite = self._compared(column)
        there = self._leaf(self._empty(column), negated=True)
        return self._models.Filter(must=[there, self._leaf(found, negated=negated ^ opposite)])

    def _column(self) -> str:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        if token is None or token[3] is None:
            raise self._bad()
        self._at += 1
        name = str(token[3])
        if name.lower() == "concat" and self._taken("("):  # as `filters.prepared` writes a folder and its end
            name = self._column()
            self._need(",")
            self._value()
            self._need(")")
        if name not in self._columns:
            way_out = did_you_mean(name, self._columns)
            raise BtoksError(f"filter {self._where!r}", f"no column {name!r}", way_out)
        return name

    def _value(self) -> Any:
        token = self._tokens[self._at] if self._at < len(self._tokens) else None
        if token is None or token[4] is not None:
            raise self._bad()
        self._at += 1
        if token[1] is not None:
            return token[1][1:-1].replace("''", "'")
        if token[2] is not None:
            return float(token[2]) if "." in token[2] else int(token[2])
        known = {"true": True, "false": False}
        if token[3].lower() not in known:
            raise self._bad()
        return known[token[3].lower()]

    def _compared(self, column: str) -> tuple[Any, bool]:
        """What a column is compared with, and whether the opposite is meant."""
        if self._taken("LIKE"):
            return self._like(column, self._value()), False
        if self._taken("BETWEEN"):
            least = self._value()
            self._need("AND")
            return self._range(column, gte=least, lte=self._value()), False
        if self._taken("IN"):
            return self._models.Filter(should=[self._equal(column, value) for value in self._list()]), False
        sign = self._taken("=", "!=", "<>", *_RANGES)
        if sign is None:
            raise self._bad()
        value = self._value()
        if sign in _RANGES:
            return self._range(column, **{_RANGES[sign]: value}), False
        return self._equal(column, value), sign != "="

    def _list(self) -> list[Any]:
        self._need("(")
        values = [self._value()]
        while self._taken(","):
            values.append(self._value())
        self._need(")")
        return values

    def _like(self, column: str, pattern: Any) -> Any:
        folder = str(pattern).removesuffix("/%")
        if column != "folder" or folder == pattern or not folder or set("%_") & set(folder):
            raise self._bad("Qdrant's store knows LIKE for a folder and all below it")
        return self._match(ABOVE, folder)

    def _equal(self, column: str, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._range(column, gte=value, lte=value)
        return self._match(column, value)

    def _match(self, column: str, value: Any) -> Any:
        return self._models.FieldCondition(key=column, match=self._models.MatchValue(value=value))

    def _range(self, column: str, **ends: Any) -> Any:
        if any(isinstance(end, str | bool) for end in ends.values()):
            raise self._bad("Qdrant's store knows an order for numbers alone")
        return self._models.FieldCondition(key=column, range=self._models.Range(**ends))

    def _empty(self, column: str) -> Any:
        return self._models.IsEmptyCondition(is_empty=self._models.PayloadField(key=column))

    def _leaf(self, found: Any, *, negated: bool) -> Any:
        return self._models.Filter(**{"must_not" if negated else "must": [found]})


def both(where: str | None, kind: str | None, columns: Sequence[str]) -> Any:
    """The filter of a condition and a kind; None where there is neither."""
    found = filters.of_kind(where, kind)
    return None if found is None else filter_of(found, columns)
