"""What every pooling method owes: a vector of unit length that no batch changes, a stated size, no trace afterwards."""

from __future__ import annotations

import functools
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import btoks
from btoks import bottleneck, methods
from btoks.errors import BtoksError
from items import attached, fresh, kinds, near, padded, streamed

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NAME = "qwen3_vl"


def items(card: methods.Card) -> list[Any]:
    """Inputs of every kind that a method is for."""
    return [item for item in kinds(NAME).values() if set(item) <= set(card.takes)]


@functools.cache
def pooled(name: str) -> SentenceTransformer:
    return fresh(NAME, pooling=name)


def plain(card: methods.Card) -> np.ndarray:
    """What the plain model gives for them."""
    return streamed(attached(NAME), items(card))


def state(model: SentenceTransformer) -> list[Any]:
    """Everything a method could leave behind: modules, their order, their hooks, their attributes."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    inside = [(name, id(module)) for name, module in model.named_modules()]
    hooks = [dict(getattr(module, kind)) for module in model.modules() for kind in kinds]
    attributes = [sorted(module.__dict__) for module in model.modules()]
    return [inside, hooks, attributes, sorted(model.__dict__), dict(bottleneck.record(model))]


def check_identity(card: methods.Card) -> None:
    if card.identity is None:
        vectors = streamed(pooled(card.name), items(card))
        near(np.linalg.norm(vectors, axis=1), np.ones(len(items(card))))
        assert vectors.shape != plain(card).shape or np.abs(vectors - plain(card)).max() > 1e-3
        return
    settings = {"name": card.name, **card.identity}
    near(streamed(fresh(NAME, pooling=settings), items(card)), plain(card))
    with methods.apply(attached(NAME), methods.create("pooling", settings)) as model:
        near(streamed(model, items(card)), plain(card))


def check_batch_and_padding(card: methods.Card) -> None:
    model = pooled(card.name)
    single = np.concatenate([streamed(model, [item]) for item in items(card)])
    for side in ("right", "left"):
        with padded(model, side):
            near(model.encode(items(card)), single)
            near(streamed(model, items(card)[::-1])[::-1], single)


def check_other_inputs(card: methods.Card) -> None:
    other = [item for item in kinds(NAME).values() if not set(item) <= set(card.takes)]
    assert len(other) + len(items(card)) == len(kinds(NAME))
    for item in other:
        with pytest.raises(BtoksError, match="this model takes") as caught:
            streamed(pooled(card.name), [item])
        assert "\n" not in str(caught.value)


def check_width(card: methods.Card) -> None:
    dim = attached(NAME).get_embedding_dimension()
    for tokens in (1, 4):
        made = methods.create("pooling", card.name)
        model = fresh(NAME, pooling=made, tokens=tokens)
        assert made.width(tokens, dim) == model.get_embedding_dimension() == streamed(model, items(card)[:1]).shape[1]


def check_trained_parameters(card: methods.Card) -> None:
    made, model = methods.create("pooling", card.name), pooled(card.name)
    weights = [weight for module in list(model)[1:] for weight in module.parameters()]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    assert trained == (made.parameters(attached(NAME).get_embedding_dimension()) if card.trained else 0)
    assert bool(trained) == card.trained


def check_applied_is_attached(card: methods.Card) -> None:
    made = methods.create("pooling", card.name)
    with methods.apply(attached(NAME), made) as model:
        near(streamed(model, items(card)), streamed(pooled(card.name), items(card)))


def check_saved(card: methods.Card) -> None:
    model = pooled(card.name)
    with tempfile.TemporaryDirectory() as place:
        btoks.save(model, f"{place}/model")
        loaded = btoks.load(f"{place}/model")
    assert np.array_equal(streamed(loaded, items(card)), streamed(model, items(card)))
    assert methods.create("pooling", bottleneck.record(loaded)["pooling"]) == methods.create("pooling", card.name)
    assert [type(module) for module in loaded] == [type(module) for module in model]


def check_nothing_is_left(card: methods.Card) -> None:
    made, model = methods.create("pooling", card.name), attached(NAME)
    before = state(model)
    with methods.apply(model, made):
        assert state(model) != before
        streamed(model, items(card)[:2])
    assert state(model) == before
    with pytest.raises(ZeroDivisionError), methods.apply(model, made, made):
        raise ZeroDivisionError
    assert state(model) == before
    assert np.array_equal(streamed(model, items(card)), plain(card))
