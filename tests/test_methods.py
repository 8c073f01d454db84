"""The registry of methods: the folder is the list, errors name the right name, nothing of `apply` is left behind."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from btoks import methods
from btoks.errors import BtoksError
from btoks.methods import pooling
from btoks.methods.pooling.mean import Mean
from btoks.methods.pooling.weighted import Weighted
from items import KINDS, attached, fresh, python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

CARDS = methods.cards()
POOLING = sorted(path.stem for path in Path(pooling.__path__[0]).glob("[a-z]*.py"))
ITEMS = [KINDS["text"], KINDS["short text"]]


def test_the_folder_is_the_list() -> None:
    root = Path(methods.__file__).parent
    assert methods.families() == sorted(path.parent.name for path in root.glob("*/__init__.py"))
    for family in methods.families():
        files = sorted(path.stem for path in (root / family).glob("*.py") if not path.stem.startswith("_"))
        assert methods.names(family) == files
    assert methods.names("pooling") == POOLING
    assert [card.name for card in methods.cards("pooling")] == POOLING
    assert {card.family for card in CARDS} == set(methods.families())


def test_listing_imports_no_method() -> None:
    code = "import sys; from btoks import methods; print(methods.names('pooling')); print('torch' in sys.modules, "
    ran = python(code + "[name for name in sys.modules if name.startswith('btoks.methods.pooling.')])")
    assert ran.stdout.splitlines() == [str(POOLING), "False []"], ran.stderr


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.family}-{card.name}")
def test_a_card_is_complete(card: methods.Card) -> None:
    assert card.title
    assert "\n" not in card.title
    assert re.fullmatch(r"\d{4}\.\d{4,5}", card.paper), "the number of a paper"
    assert card.stage in get_args(methods.Stage)
    assert card.system is None or re.fullmatch(r"[A-M]\d{1,2}", card.system)
    assert (card.identity is None) == bool(card.no_identity)
    assert dataclasses.is_dataclass(card.cls)
    assert card.cls.__dataclass_params__.frozen
    assert card.cls.__doc__
    assert not card.cls.__doc__.startswith(f"{card.cls.__name__}("), "a line of its own"
    module = inspect.getmodule(card.cls)
    assert module
    assert module.__doc__
    assert len(Path(str(module.__file__)).read_text().splitlines()) <= 300
    assert methods.get(card.family, card.name) == card
    told = json.loads(json.dumps(card.as_dict()))
    shown = ["name", "family", "system", "title", "paper", "stage", "trained", "query_aware", "takes", "cost"]
    assert list(told) == shown
    assert card.takes
    assert set(card.takes) <= {"text", "image", "video"}
    assert card.cost or card.family != "pooling"


def test_a_method_is_made_from_a_name_a_mapping_or_itself() -> None:
    weighted = Weighted(slope=0.25)
    assert methods.create("pooling", "mean") == Mean()
    assert methods.create("pooling", {"name": "weighted", "slope": 0.25}) == weighted
    assert methods.create("pooling", weighted) is weighted
    assert methods.settings(weighted) == {"name": "weighted", "slope": 0.25}
    assert methods.card(weighted).name == "weighted"
    given = {"name": "weighted", "slope": 2.0}
    methods.create("pooling", given)
    assert given == {"name": "weighted", "slope": 2.0}


@pytest.mark.parametrize(
    ("family", "spec", "message"),
    [
        ("poling", "mean", "method family 'poling': there is none; did you mean 'pooling'?"),
        ("pooling", "maen", "pooling method 'maen': there is none; did you mean 'mean'?"),
        ("pooling", "zzz", f"choose one of {', '.join(POOLING)}"),
        ("pooling", "_primitives", "pooling method '_primitives': there is none"),
        ("pooling", {"name": "weighted", "slop": 1}, "'weighted': no setting 'slop'; did you mean 'slope'?"),
        ("pooling", {"name": "mean", "slope": 1}, "pooling method 'mean': no setting 'slope'; it has no settings"),
        ("pooling", {"slope": 1}, "no name given"),
        ("pooling", 7, "no name given"),
        ("pooling", None, "no name given"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(family: str, spec: Any, message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        methods.create(family, spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Notes:
    """A method made for these tests: it notes when it is installed and when it goes."""

    name: str = ""
    log: tuple[list[str], ...] = dataclasses.field(default=(), compare=False)
    state: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @contextmanager
    def applied(self, model: SentenceTransformer) -> Iterator[None]:
        self.log[0].append(f"+{self.name}")
        try:
            yield
        finally:
            self.log[0].append(f"-{self.name}")


Notes.__module__ = "btoks.methods.cache.notes"
methods.method(title="Notes", paper="0000.00000", stage="cache", query_aware=True, no_identity="it notes")(Notes)


def test_a_method_needs_an_identity_or_the_reason_for_none() -> None:
    for given in ({}, {"identity": {}, "no_identity": "both"}):
        with pytest.raises(TypeError, match="no_identity"):
            methods.method(title="X", paper="0000.00000", stage="pool", **given)


def test_methods_of_another_family_are_refused() -> None:
    with pytest.raises(BtoksError, match="is of family 'cache'; pass one of family 'pooling'"):
        methods.create("pooling", Notes())


def test_what_was_learnt_is_no_setting() -> None:
    assert methods.settings(Notes(name="n", state={"mean": np.zeros(3)})).keys() == {"name", "log"}


def test_methods_that_need_the_query_cannot_build_an_index() -> None:
    methods.for_index(Mean(), Weighted())
    with pytest.raises(BtoksError, match="notes: needs the query, which is unknown while indexing; "):
        methods.for_index(Mean(), Notes())


def test_methods_are_installed_in_order_and_taken_away_in_reverse() -> None:
    log: list[str] = []
    model = attached("qwen3")
    with methods.apply(model, Notes("a", (log,)), Notes("b", (log,))) as same:
        assert same is model
        assert log == ["+a", "+b"]
    assert log == ["+a", "+b", "-b", "-a"]
    with pytest.raises(ZeroDivisionError), methods.apply(model, Notes("c", (log,))):
        raise ZeroDivisionError
    assert log[4:] == ["+c", "-c"]


def test_only_methods_are_applied() -> None:
    log: list[str] = []
    for wrong in ("mean", 3, object()):
        with (
            pytest.raises(BtoksError, match="cannot be applied to a model"),
            methods.apply(attached("qwen3"), Notes("a", (log,)), wrong),
        ):
            pass
    assert log == []


def test_nested_poolings_give_way_in_turn() -> None:
    model = fresh("qwen3")
    plain = model.encode(ITEMS)
    last, weighted = methods.create("pooling", "last"), Weighted()
    with methods.apply(model, last):
        by_last = model.encode(ITEMS)
        with methods.apply(model, weighted):
            by_weight = model.encode(ITEMS)
        assert np.array_equal(model.encode(ITEMS), by_last)
    assert np.array_equal(model.encode(ITEMS), plain)
    for one, other in ((plain, by_last), (plain, by_weight), (by_last, by_weight)):
        assert np.abs(one - other).max() > 1e-3


def test_a_method_that_cannot_be_installed_leaves_nothing() -> None:
    model = fresh("qwen3", tokens=0)
    plain, modules = model.encode(ITEMS), list(model._modules.items())
    last = methods.create("pooling", "last")
    with pytest.raises(BtoksError, match="no bottleneck tokens"), methods.apply(model, last, Mean()):
        pass
    assert list(model._modules.items()) == modules
    assert np.array_equal(model.encode(ITEMS), plain)
