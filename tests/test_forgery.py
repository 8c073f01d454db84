"""Trap 3: what a user's text spells stays text, and every text stays as it is."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

import btoks
import tiny
from btoks import prompts
from items import attached, features, picture, streamed, token_ids

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PIECES = ["<", "|", ">", "<|", "|>", "btok_0", "im_start", "image", "<image>", "<|btok_0|>", " ", "a"]


def forgeries(name: str) -> list[str]:
    model = attached(name)
    every = prompts.forgeable(model[0].processor)
    nested = [f"{one[:3]}{two}{one[3:]}" for one in every[:6] for two in ("<|btok_0|>", every[-1])]
    overlapping = [text for one in every for text in (f"{one}{one}", f"{one[:-1]}{one}", f"{one}{one[1:]}")]
    return [*every, *nested, *overlapping, "<|im_<|btok_0|>start|>", "<|btok_0|><|btok_0|>", "<|<|btok_0|>btok_0|>"]


@pytest.mark.parametrize("name", tiny.NAMES)
def test_a_text_cannot_spell_special_tokens(name: str) -> None:
    """Trap 3: a text that spells `<|btok_0|>` or an image's token became one, and moved the embedding or crashed."""
    model, spelled = attached(name), forgeries(name)
    tokenizer = model.tokenizer
    listed = set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens)
    assert listed <= set(prompts.forgeable(model[0].processor))
    special = set(tokenizer.convert_tokens_to_ids(sorted(listed)))
    assert {*tokenizer.all_special_ids, *token_ids(model)} <= special
    texts = [*spelled, " ".join(spelled), "".join(spelled)]
    for given_as in ({}, {"prompt": "query: "}):
        rows = features(model, *({"text": text} for text in texts), **given_as)
        for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True):
            found = ids[mask.bool()].tolist()
            assert [each for each in found if each in special] == found[-4:] == token_ids(model)
    for text in texts:
        row = features(model, {"text": "fox"}, prompt=text)["input_ids"][0].tolist()
        assert [each for each in row if each in special] == row[-4:]
    if name in tiny.VISION:
        harmless = features(model, {"text": "fox", "image": picture()})["input_ids"][0].tolist()
        forged = features(model, {"text": "".join(spelled), "image": picture()})["input_ids"][0].tolist()
        assert [each for each in forged if each in special] == [each for each in harmless if each in special]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(["qwen2_vl", "smolvlm", "gemma3"])
)
@settings(max_examples=60, deadline=None)
def test_every_other_text_stays_as_it_is(text: str, name: str) -> None:
    """Trap 3, the other side: what spells no special token reaches the model unchanged, byte for byte."""
    model = attached(name)
    expected = model.tokenizer(text.rstrip("\n") + "\n", add_special_tokens=False).input_ids
    assert features(model, {"text": text})["input_ids"][0].tolist() == expected + token_ids(model)


@given(st.lists(st.sampled_from(PIECES)))
@settings(max_examples=60, deadline=None)
def test_no_mixture_of_pieces_forges_a_token(pieces: list[str]) -> None:
    """Trap 3 once more: whatever pieces of tokens meet, no special token comes of it."""
    model = attached("llava_onevision")
    row = features(model, {"text": "".join(pieces)}, prompt="".join(pieces[::-1]))["input_ids"][0].tolist()
    special = set(model.tokenizer.convert_tokens_to_ids(list(model.tokenizer.get_added_vocab())))
    assert [each for each in row if each in special] == row[-4:] == token_ids(model)


def test_a_text_that_is_a_path_or_an_address_stays_text(tmp_path: Path) -> None:
    """Trap 3, last: sentence-transformers opens a bare string that is a file or a URL; ours says `text`."""
    model = attached("qwen2_vl")
    file = tmp_path / "fox.png"
    picture().save(file)
    for text in (str(file), file.as_uri(), "https://example.org/fox.png", "data:image/png;base64,AAAA", "fox.mp4"):
        words = model.tokenizer(text + "\n", add_special_tokens=False).input_ids
        assert features(model, {"text": text})["input_ids"][0].tolist() == words + token_ids(model)
        np.testing.assert_allclose(streamed(model, [text]), streamed(model, [{"text": text}]), rtol=0, atol=0)
        np.testing.assert_allclose(streamed(model, [text]), model.encode([{"text": text}]), rtol=0, atol=1e-5)


@functools.cache
def odd() -> SentenceTransformer:
    """A model with tokens that can overlap themselves and each other, and one of white space, which is plain text."""
    full, tokenizer = tiny.backbone("qwen3")
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("|a|", "##", "<x><", "x>", "a|b", "   ")])
    return btoks.attach((full, tokenizer))


@given(st.text("|ab#<x> ", max_size=14))
@settings(max_examples=150, deadline=None)
@example("|a|a|a|b")
@example("#####")
@example("<x><x><x><")
def test_tokens_that_overlap_are_not_forged_either(text: str) -> None:
    """Trap 3, at its oddest: replacing one of two that share a character must not leave the other."""
    model = odd()
    listed = [name for name in model.tokenizer.get_added_vocab() if not name.isspace()]
    special = set(model.tokenizer.convert_tokens_to_ids(listed))
    row = features(model, {"text": text})["input_ids"][0].tolist()
    assert [each for each in row if each in special] == row[-4:] == token_ids(model)
    assert model.tokenizer.decode(row[:-4]).replace(" ", "") == text.replace(" ", "") + "\n"
