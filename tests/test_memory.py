"""The memory by itself: size, saving, slicing, and reading text from it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
import torch

import dense
from btoks import bottleneck, condensation
from btoks.errors import BtoksError
from items import KINDS, attached, features, fresh, picture, token_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sentence_transformers import SentenceTransformer


@pytest.fixture
def held() -> condensation.Memory:
    return condensation.memory(attached("qwen2_vl"), features(attached("qwen2_vl"), *dense.rows("qwen2_vl")))[1]


@pytest.mark.parametrize("name", [*dense.NAMES, "llava_onevision", "gemma3", "internvl", "smolvlm", "qwen2_5_vl"])
def test_its_size_is_the_closed_form(name: str) -> None:
    for tokens in (1, 4):
        model = attached(name, tokens)
        _, held = condensation.memory(model, features(model, KINDS["text"], KINDS["short text"]))
        assert held.keys_LBHKD.shape == held.values_LBHKD.shape == (2, 2, 2, tokens, 16)
        config = bottleneck.generator(model).config
        assert held.nbytes == condensation.nbytes(config, tokens, 2) == 2 * (2 * 2 * 2 * tokens * 16 * 4 + 8)
        assert len(held) == 2


def test_it_is_saved_sliced_and_opened(held: condensation.Memory, tmp_path: Path) -> None:
    file = tmp_path / "memory.safetensors"
    for rows_of in (slice(1, 3), [2, 0], torch.tensor([4])):
        part = held[rows_of]
        part.save(file)
        opened = condensation.Memory.load(file)
        for name in ("keys_LBHKD", "values_LBHKD"):
            assert torch.equal(getattr(opened, name), getattr(held, name)[:, rows_of])
        assert torch.equal(opened.position_B, held.position_B[rows_of])
        assert len(opened) == len(part)
    assert [path.name for path in tmp_path.iterdir()] == ["memory.safetensors"]
    assert torch.equal(held.to("cpu").keys_LBHKD, held.keys_LBHKD)
    for content in (b"", b"no memory at all"):
        file.write_bytes(content)
        with pytest.raises(BtoksError, match="not a memory file"):
            condensation.Memory.load(file)
    with pytest.raises(BtoksError, match="not a memory file"):
        condensation.Memory.load(tmp_path / "none")


def opening(model: SentenceTransformer, prompt: str = "") -> str:
    return (f"{prompt}\n" if prompt else "") + bottleneck.record(model)["prefix"]


@functools.cache
def wordy(name: str) -> SentenceTransformer:
    """A model that says words and no special tokens."""
    model = fresh(name)
    with torch.no_grad():
        special = sorted(model.tokenizer.get_added_vocab().values())
        bottleneck.generator(model).get_output_embeddings().weight[special] = 0
    return model


@pytest.mark.parametrize("prompt", ["", "what is it?"])
@pytest.mark.parametrize("name", dense.NAMES)
def test_reading_is_greedy_decoding_behind_the_mask(name: str, prompt: str) -> None:
    model, items = wordy(name), dense.rows(name)
    _, held = condensation.memory(model, features(model, *items))
    found = condensation.read(model, held, prompt, max_new_tokens=8)
    for place, item in enumerate(items):
        ids = dense.spoken(model, item, opening(model, prompt), 8)
        assert found[place] == model.tokenizer.decode(ids, skip_special_tokens=True)
        assert condensation.read(model, held[[place]], prompt, max_new_tokens=8) == found[place : place + 1]
    assert len(set(found)) > 1
    if prompt:
        assert found != condensation.read(model, held, max_new_tokens=8)


def test_reading_stops_at_the_end_of_the_turn() -> None:
    model = fresh("qwen3")
    items = [KINDS["text"], KINDS["short text"]]
    _, held = condensation.memory(model, features(model, *items))
    told = [dense.spoken(model, item, opening(model), 8) for item in items]
    stop = next(token for token in told[0][2:] if token not in told[1] and token not in told[0][:2])
    model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(stop)
    found = condensation.read(model, held, max_new_tokens=8)
    cut = told[0][: told[0].index(stop)]
    assert found == [model.tokenizer.decode(ids) for ids in (cut, told[1])]
    assert condensation.read(model, held[[0]], max_new_tokens=8) == found[:1]
    assert condensation.read(model, held, max_new_tokens=0) == ["", ""]


def test_sampling_is_a_matter_of_the_seed(held: condensation.Memory) -> None:
    model = attached("qwen2_vl")

    def read(seed: int | None, temperature: float = 1.0) -> list[str]:
        return condensation.read(model, held, max_new_tokens=8, temperature=temperature, seed=seed)

    assert read(1) == read(1)
    assert read(1) != read(2)
    assert read(3, temperature=1e-4) == condensation.read(model, held, max_new_tokens=8)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    read(5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bottleneck_tokens_are_never_spoken() -> None:
    """Their rows of the head may be the likeliest of all; nor are rows spoken that no text has."""
    model = fresh("qwen3")
    _, held = condensation.memory(model, features(model, KINDS["text"]))
    expected = condensation.read(model, held, max_new_tokens=6)
    head_VD = bottleneck.generator(model).get_output_embeddings().weight
    first = dense.spoken(model, KINDS["text"], opening(model), 6)
    with torch.no_grad():
        for row, token in zip([*token_ids(model), len(model.tokenizer), len(head_VD) - 1], first, strict=True):
            head_VD[row] = 50 * head_VD[token]
    for options in ({}, {"temperature": 0.7, "seed": 0}):
        found = condensation.read(model, held, max_new_tokens=6, **options)
        assert "btok" not in found[0]
        assert options or found == expected


def test_what_has_no_memory_is_told_in_one_line() -> None:
    for model, reason in ((attached("qwen3_5"), "embeddings only"), (attached("qwen3", tokens=0), "tokens ≥ 1")):
        with pytest.raises(BtoksError, match=reason) as caught:
            condensation.memory(model, features(model, KINDS["text"]))
        assert "\n" not in str(caught.value)


def hooks(model: SentenceTransformer) -> Iterator[int]:
    for module in bottleneck.generator(model).modules():
        yield len(module._forward_hooks) + len(module._forward_pre_hooks)
        assert "_can_checkpoint_with_cache" not in module.__dict__


def test_taking_a_memory_leaves_nothing_behind() -> None:
    model = fresh("qwen2_vl")
    plain = model.encode([KINDS["image"]])
    before = list(hooks(model))
    condensation.memory(model, features(model, KINDS["image"]))
    assert list(hooks(model)) == before
    broken = features(model, {"image": picture()})
    broken["pixel_values"] = broken["pixel_values"][:-4]
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        condensation.memory(model, broken)
    assert list(hooks(model)) == before
    assert (model.encode([KINDS["image"]]) == plain).all()
