"""A method in one short string: `pca:0.5+float8`, `int8:percentile=99.9`; what is parsed can be written again.

name                    the method with its defaults
name:value,key=value    values without a key fill the settings in their order; numbers, true and null as in JSON
first+second            a chain (families that have a method `chain`)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from btoks.errors import BtoksError


def parse(spec: str, fields: Callable[[str], list[str]]) -> dict[str, Any]:
    """The mapping that a string stands for; `fields` gives the settings of a name, in order.

    >>> parse("pca:0.5", {"pca": ["components"]}.__getitem__)
    {'name': 'pca', 'components': 0.5}
    """
    if "+" in spec:
        return {"name": "chain", "parts": tuple(part.strip() for part in spec.split("+"))}
    name, colon, given = spec.partition(":")
    parsed: dict[str, Any] = {"name": name}
    for place, text in enumerate(given.split(",") if colon else []):
        key, equals, value = text.partition("=")
        if not equals:
            known = fields(name)
            if place >= len(known):
                raise BtoksError(repr(spec), f"{name} has {len(known)} settings", "give fewer values")
            key, value = known[place], text
        parsed[key.strip()] = _value(value)
    return parsed


def short(instance: Any) -> str:
    """The shortest string that `create` reads back as this method: settings at their default are left out."""
    from btoks.methods import card

    name = card(instance).name
    if name == "chain":
        return "+".join(instance.parts)
    known = [field for field in dataclasses.fields(instance) if field.init and field.name != "state"]
    given: list[str] = []
    for place, field in enumerate(known):
        value = getattr(instance, field.name)
        if value != field.default:
            bare = len(given) == place
            text = value if isinstance(value, str) else json.dumps(value)
            given.append(text if bare else f"{field.name}={text}")
    return f"{name}:{','.join(given)}" if given else name


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip()
