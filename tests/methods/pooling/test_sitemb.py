"""SitEmb: the sum of a chunk's embeddings alone and within its context; it finds whom a "he" speaks of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from btoks import condensation
from btoks.errors import BtoksError
from btoks.methods.pooling.sitemb import MARK, situated
from items import attached, features, fresh, near, streamed
from trained import trained

CHUNK, CONTEXT = "he reads it on a bus", "the fox has a book . a dog sleeps"


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
@pytest.mark.parametrize("tokens", [0, 4])
def test_it_is_the_sum_of_both(name: str, tokens: int) -> None:
    model, plain = fresh(name, tokens=tokens, pooling="sitemb"), attached(name, tokens=tokens)
    alone, within = streamed(plain, [CHUNK, f"{CONTEXT}\n{CHUNK}"])
    both = streamed(model, [situated(CHUNK, CONTEXT), CHUNK])
    near(both[0], (alone + within) / np.linalg.norm(alone + within))
    near(both[1], alone)


def test_without_a_context_it_is_the_chunk() -> None:
    assert situated(CHUNK, " \n") == CHUNK
    assert situated(f"a{MARK}b", f"c{MARK}d") == f"a b{MARK}c d"


def test_an_instruction_stays_with_the_chunk() -> None:
    model, plain = fresh("qwen3", pooling="sitemb"), attached("qwen3")
    (found,) = streamed(model, [situated(CHUNK, CONTEXT)], prompt="Find it.")
    parts = streamed(plain, [f"Find it. {CHUNK}", f"{CONTEXT}\nFind it. {CHUNK}"])
    near(found, normalize(torch.from_numpy(parts).sum(0), dim=0).numpy())


def test_a_long_context_is_cut_and_never_the_chunk() -> None:
    model = fresh("qwen3", pooling="sitemb", max_tokens=60)
    (long, longer) = streamed(model, [situated(CHUNK, f"{CONTEXT} " * count) for count in (20, 40)])
    near(long, longer)
    assert float(long @ streamed(model, [situated(CHUNK, CONTEXT)])[0]) > 0.9


def test_it_leaves_no_memory() -> None:
    model = fresh("qwen3", pooling="sitemb")
    with pytest.raises(BtoksError, match="an input taken in parts has none"):
        condensation.memory(model, features(model, {"text": situated(CHUNK, CONTEXT)}))
    condensation.memory(model, features(model, {"text": CHUNK}))


def test_it_finds_whom_a_chunk_speaks_of() -> None:
    """The name stands in a neighbour alone: without the context the chunks of all stories about a thing are one."""
    names, things = (
        ("fox", "dog", "bus", "page", "text", "station"),
        ("book", "garden", "photo", "red", "brown", "lazy"),
    )
    stories = [
        (f"{name} {thing}", situated(f"it reads the {thing}", f"a {name} jumps"))
        for name, thing in itertools.product(names, things)
    ]
    order = np.random.default_rng(0).permutation(len(stories))
    model = trained([stories[place] for place in order[12:]], 40, pooling="sitemb", weight=0.0, side="none")
    held_out = [stories[place] for place in order[:12]]
    documents = streamed(model, [text for _, text in stories])
    queries = streamed(model, [query for query, _ in held_out])
    best = (queries @ documents.T).argmax(axis=1)
    found = np.mean([stories[place][0] == query for place, (query, _) in zip(best, held_out, strict=True)])
    chunks = {text.partition(MARK)[0] for _, text in stories}
    assert len(chunks) == len(things), "alone a chunk is one of six that are equal"
    assert found >= 3 / len(names)
    assert documents.shape[1] == attached("qwen3").get_embedding_dimension(), "the bytes of one vector"
