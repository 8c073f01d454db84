"""Length collapse: each measure is its formula, and temperature does to it what it is said to do."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import btoks
from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from btoks.evaluation import collapse
from command import run
from items import attached, features, fresh


def by_hand(model: Any, text: str) -> tuple[list[float], list[float]]:
    """Entropy and energy of each layer, from the eager kernel's own weights and the hidden states."""
    batch = features(model, {"text": text})
    with torch.no_grad():
        out = generator(model).get_decoder()(
            input_ids=batch["input_ids"], output_attentions=True, output_hidden_states=True
        )
    entropy, energy = [], []
    for weights in out.attentions:
        rows = -torch.special.xlogy(weights[0], weights[0]).sum(dim=-1)[:, 1:]
        entropy.append(float((rows / torch.arange(2, rows.shape[1] + 2).log()).mean()))
    for hidden in out.hidden_states[1:-1]:  # the last of these is behind the final norm
        about = hidden[0] - hidden[0].mean(dim=0)
        energy.append(float(about.square().sum() / (len(hidden[0]) * hidden[0].mean(dim=0).square().sum())))
    return entropy, energy


@pytest.mark.parametrize("name", ["qwen3", "qwen3_vl", "gemma3"])
def test_it_is_the_formulas(name: str) -> None:
    model = fresh(name)
    paragraphs = ["the quick brown fox jumps over the lazy dog", "two people read a book in the garden today"]
    (point,) = collapse.measure(model, lengths=[12], texts=2, paragraphs=paragraphs)
    texts = collapse.joined(paragraphs, 12, 2, model.tokenizer)
    vectors = model.encode([{"text": text} for text in texts])
    assert point.cosine == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    generator(model).set_attn_implementation("eager")
    entropy, energy = (
        np.mean([by_hand(model, text)[0] for text in texts], axis=0),
        [np.mean(each) for each in zip(*(by_hand(model, text)[1] for text in texts), strict=True)],
    )
    np.testing.assert_allclose(point.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(point.energy[: len(energy)], energy, rtol=1e-4)


def test_temperature_narrows_attention_at_every_length_and_layer() -> None:
    points = collapse.measure(attached("qwen3"), lengths=[16, 64], temperatures=[1.0, 0.7, 0.4], texts=4)
    assert [(each.temperature, each.length) for each in points] == [
        (tau, length) for tau in (1.0, 0.7, 0.4) for length in (16, 64)
    ]
    for length in (16, 64):
        rows = [each for each in points if each.length == length]
        for warm, cold in itertools.pairwise(rows):
            assert cold.entropy[0] < warm.entropy[0]
    plain = collapse.measure(attached("qwen3"), lengths=[16, 64], texts=4)
    assert plain == points[:2]


def test_texts_are_real_paragraphs_of_one_length() -> None:
    tokenizer = attached("qwen3").tokenizer
    paragraphs = collapse.prose()
    assert len(paragraphs) >= 16
    texts = collapse.joined(paragraphs, 100, 16, tokenizer)
    counts = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]
    assert set(counts) == {100}
    assert len({text[:40] for text in texts}) == 16


def test_slope_is_the_rise_a_doubling() -> None:
    points = [collapse.Point(1.0, length, 2, cosine, [], []) for length, cosine in ((16, 0.1), (32, 0.3), (64, 0.5))]
    assert collapse.slope(points) == pytest.approx(0.2)
    assert collapse.slope(points[:1]) == 0.0


def test_nothing_is_left_on_the_model() -> None:
    model = attached("qwen3_vl")
    before = dict(record(model)), list(model), generator(model).get_decoder().config._attn_implementation
    collapse.measure(model, lengths=[8], temperatures=[0.5], texts=2)
    assert (dict(record(model)), list(model), generator(model).get_decoder().config._attn_implementation) == before


def test_wrong_options_are_refused() -> None:
    for options in ({"texts": 1}, {"lengths": []}, {"lengths": [0]}):
        with pytest.raises(BtoksError, match="nothing to compare"):
            collapse.measure(attached("qwen3"), **options)
    with pytest.raises(BtoksError, match="1 paragraphs for 2 texts"):
        collapse.measure(attached("qwen3"), texts=2, paragraphs=["a"])
    with pytest.raises(BtoksError, match="length 50: there is less text than that"):
        collapse.measure(attached("qwen3"), texts=2, lengths=[50], paragraphs=["a fox", "a dog"])


def test_the_command_prints_draws_and_writes_json(tmp_path: Any) -> None:
    btoks.save(attached("qwen3_vl"), tmp_path / "model")
    few = ("--lengths", "8,16", "--texts", 3, "--temperature", "1,0.5")
    ran = run("analyse", "length-collapse", tmp_path / "model", *few, "--out", tmp_path / "plot.svg")
    assert ran.status == 0, ran.err
    assert ran.out.count("with each doubling of the length") == 2
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    lines = run("analyse", "length-collapse", tmp_path / "model", *few, "--json").records
    assert [(line["temperature"], line["length"]) for line in lines] == [(1.0, 8), (1.0, 16), (0.5, 8), (0.5, 16)]
    assert run("analyse", "length-collapse", tmp_path / "model", *few, "--out", "a.txt").line.startswith(
        "btoks: a.txt: not a PNG or SVG"
    )
