"""TempScale: the softmax of the language model's attention, and only that, is sharper by τ."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import btoks
import tiny
from btoks import methods
from btoks.bottleneck import generator
from btoks.errors import BtoksError
from btoks.methods.pooling import _attention
from items import KINDS, attached, features, fresh, kinds, near, streamed

TEXTS = [KINDS["text"], KINDS["short text"]]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_it_is_the_attention_with_its_scale_over_tau(name: str) -> None:
    items = list(kinds(name).values())
    expected = fresh(name)
    for layer in generator(expected).get_decoder().layers.modules():
        if hasattr(layer, "layer_idx") and hasattr(layer, "is_causal"):
            layer.scaling /= 0.7
    model = fresh(name, pooling="tempscale:0.7")
    found = streamed(model, items)
    near(found, streamed(expected, items))
    assert np.abs(found - streamed(attached(name), items)).max() > 1e-3


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_at_one_it_is_the_plain_model_to_the_bit(kernel: str) -> None:
    model = fresh("qwen3_vl")
    generator(model).set_attn_implementation(kernel)
    items = list(KINDS.values())
    plain = streamed(model, items)
    with methods.apply(model, methods.create("pooling", "tempscale:1.0")):
        assert np.array_equal(streamed(model, items), plain)
    with methods.apply(model, methods.create("pooling", {"name": "tempscale", "above": 1000})):
        assert np.array_equal(streamed(model, items), plain)
    with methods.apply(model, methods.create("pooling", "tempscale:0.5")):
        assert np.abs(streamed(model, items) - plain).max() > 1e-3


def test_short_rows_of_a_mixed_batch_stay_to_the_bit() -> None:
    model = attached("qwen3")
    batch = features(model, *TEXTS)
    lengths = batch["attention_mask"].sum(dim=1)
    assert lengths[0] > 10 > lengths[1]
    with torch.no_grad():
        plain = model(dict(batch))["sentence_embedding"]
        with methods.apply(model, methods.create("pooling", {"name": "tempscale", "above": 10})):
            found = model(dict(batch))["sentence_embedding"]
    assert torch.equal(found[1], plain[1])
    assert (found[0] - plain[0]).abs().max() > 1e-3


def entropies(model: Any, item: Any) -> dict[int, float]:
    """The mean entropy of the rows of each layer's attention in one pass."""
    found: dict[int, float] = {}

    def noted(kernel: Any) -> Any:
        def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
            shared = query.shape[1] // key.shape[1]
            scores = query @ key.repeat_interleave(shared, dim=1).transpose(2, 3) * options["scaling"]
            later = torch.ones(scores.shape[-2:]).triu(1).bool()
            odds = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1)
            found[module.layer_idx] = float(-(odds * odds.clamp(min=1e-30).log()).sum(dim=-1).mean())
            return kernel(module, query, key, value, mask, **options)

        return attend

    with torch.no_grad(), _attention.changed(generator(model).get_decoder(), noted, inner=True):
        model(features(model, item))
    return found


def test_attention_narrows_as_tau_falls() -> None:
    model = attached("qwen3")
    rows = []
    for tau in (1.0, 0.8, 0.6, 0.4):
        # The first layer alone: what the others see would differ as well.
        with methods.apply(model, methods.create("pooling", {"name": "tempscale", "temperature": tau, "layers": [0]})):
            rows.append(entropies(model, KINDS["text"])[0])
    assert all(one > other for one, other in itertools.pairwise(rows))


def test_layers_are_chosen() -> None:
    model = attached("qwen3")
    plain = streamed(model, TEXTS)
    found = {}
    for layers in ((0,), (1,), (0, 1), None, (-1,), ()):
        with methods.apply(model, methods.create("pooling", {"name": "tempscale", "layers": layers})):
            found[layers] = streamed(model, TEXTS)
    assert np.array_equal(found[(0, 1)], found[None])
    assert np.array_equal(found[(1,)], found[(-1,)])
    assert np.array_equal(found[()], plain)
    assert np.abs(found[(0,)] - found[(1,)]).max() > 1e-3


def test_a_memory_is_taken_with_it_and_read() -> None:
    model = fresh("qwen3_vl", pooling="tempscale")
    (out,) = btoks.encode_stream(model, [KINDS["image + text"]], memories=True)
    near(np.stack([out.embedding]), streamed(model, [KINDS["image + text"]]))
    assert out.memory is not None
    assert len(btoks.read(model, out.memory, max_new_tokens=3)) == 1


def test_a_chain_is_its_parts() -> None:
    model = fresh("qwen3_vl", pooling="tempscale:0.7+concat")
    alone = fresh("qwen3_vl", pooling="tempscale:0.7")
    found = streamed(model, TEXTS)
    assert found.shape[1] == model.get_embedding_dimension() == 4 * 64
    for row, text in zip(found, TEXTS, strict=True):
        with torch.no_grad():
            states_KD = alone[0](features(alone, text))["token_embeddings"][0, -4:]
        near(row, (states_KD / states_KD.norm()).flatten().numpy())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tempscale:0", "temperature=0: not a temperature; "),
        ("mean+tempscale", "cannot join mean+tempscale; give changes first"),
        ("chain", None),
        ({"name": "chain", "parts": []}, "cannot join ; "),
        ("token_prepending+token_prepending", "cannot join"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(spec: Any, message: str | None) -> None:
    if message is None:
        methods.create("pooling", spec)
        return
    with pytest.raises(BtoksError) as caught:
        methods.create("pooling", spec)
    assert message in str(caught.value)


def test_layers_that_are_not_there_and_checkpointing_are_refused() -> None:
    model = fresh("qwen3", pooling={"name": "tempscale", "layers": [2]})
    with pytest.raises(BtoksError, match="layer 2: the model has 2; choose from 0 to 1"):
        model.encode(TEXTS)
    model = fresh("qwen3", pooling="tempscale")
    model[0].model.gradient_checkpointing_enable()
    batch = features(model, *TEXTS)
    with pytest.raises(BtoksError, match="gradient checkpointing"):
        model.train()(batch)
