"""Every method keeps its family's contract; a new method is covered by its card alone.

The checks of a family stand in `contracts/<family>.py`: each `check_…(card)` runs once for every method of it. A family
that measures instead has `methods/<family>/test_contract.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from btoks import methods
from btoks.errors import BtoksError

Check = Callable[[methods.Card], None]


def checks(family: str) -> list[Check]:
    if importlib.util.find_spec(f"contracts.{family}") is None:
        return []
    module = importlib.import_module(f"contracts.{family}")
    return [check for name, check in inspect.getmembers(module, inspect.isfunction) if name.startswith("check_")]


def named(value: Any) -> str:
    return f"{value.family}-{value.name}" if isinstance(value, methods.Card) else value.__name__.removeprefix("check_")


@pytest.mark.parametrize(
    ("card", "check"), [(card, check) for card in methods.cards() for check in checks(card.family)], ids=named
)
def test_contract(card: methods.Card, check: Check) -> None:
    check(card)


@pytest.mark.parametrize("family", methods.families())
def test_every_family_has_a_contract(family: str) -> None:
    own = Path(__file__).parent / "methods" / family / "test_contract.py"
    assert len(checks(family)) >= 3 or own.is_file()


@pytest.mark.parametrize("card", methods.cards(), ids=named)
def test_settings_come_back_from_json(card: methods.Card) -> None:
    for settings in ({}, card.identity or {}):
        made = methods.create(card.family, {"name": card.name, **settings})
        stored = json.loads(json.dumps(methods.settings(made)))
        assert methods.create(card.family, stored) == made
        assert methods.settings(made)["name"] == card.name


@pytest.mark.parametrize("card", methods.cards(), ids=named)
def test_query_aware_methods_are_refused_on_the_index_path(card: methods.Card) -> None:
    made = methods.create(card.family, card.name)
    if card.query_aware:
        with pytest.raises(BtoksError, match="needs the query"):
            methods.for_index(made)
    else:
        methods.for_index(made)
