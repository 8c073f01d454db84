"""Encoders with absolute positions: short texts as ever, long ones by each policy's formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from btoks import absolute
from btoks.errors import BtoksError
from items import WORDS, attached, near

WINDOW = 16
SHORT = ["quick fox", "the dog and two people read a book"]
LONG = ["the quick brown fox jumps over the lazy dog and two people read a book " * 4, "fox dog " * 30]


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request: Any, tmp_path_factory: Any) -> SentenceTransformer:
    folder = tmp_path_factory.mktemp(request.param)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS)]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"))
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    offset = 1 if request.param == "roberta" else 0
    config = transformers.AutoConfig.for_model(
        request.param,
        vocab_size=len(words),
        max_position_embeddings=WINDOW + offset,
        pad_token_id=0,
        type_vocab_size=2,
        **size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    body = Transformer(str(folder))
    return SentenceTransformer(modules=[body, Pooling(32, pooling_mode="mean")], device="cpu").eval()


def test_within_the_window_every_policy_is_the_encoder(encoder: SentenceTransformer) -> None:
    plain = np.concatenate([encoder.encode([text]) for text in SHORT])
    for policy in absolute.POLICIES:
        assert np.array_equal(absolute.encode(encoder, SHORT, policy=policy), plain)


def test_long_texts_differ_by_policy_and_from_their_beginning(encoder: SentenceTransformer) -> None:
    found = {policy: absolute.encode(encoder, LONG, policy=policy) for policy in absolute.POLICIES}
    cut = encoder.encode([" ".join(text.split()[: WINDOW - 2]) for text in LONG])
    every = [*found.values(), cut]
    for place, one in enumerate(every):
        for other in every[:place]:
            assert np.abs(one - other).max() > 1e-3
    assert all(np.isfinite(each).all() for each in every)


def test_chunks_are_the_encoders_own_windows(encoder: SentenceTransformer) -> None:
    words = LONG[1].split()
    pieces = np.array_split(np.array(words), -(-len(words) // (WINDOW - 2)))
    vectors = encoder.encode([" ".join(piece) for piece in pieces], normalize_embeddings=True)
    mean = vectors.mean(axis=0)
    near(absolute.encode(encoder, LONG[1:])[0], mean / np.linalg.norm(mean))


def test_a_grown_table_has_the_old_rows_apart_and_lines_between() -> None:
    table = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    wide = absolute.grown(table, 4)
    assert wide.shape == (20, 3)
    assert torch.equal(wide[::4], table)
    torch.testing.assert_close(wide[5], 0.75 * table[1] + 0.25 * table[2])
    torch.testing.assert_close(wide[17:], table[-1:].expand(3, -1))
    assert torch.equal(absolute.grown(table, 1), table)


def test_short_texts_are_unchanged_at_their_old_rows_in_a_grown_table(encoder: SentenceTransformer) -> None:
    plain = encoder.encode(SHORT)
    batch = encoder.preprocess(SHORT)
    table = absolute._table(encoder)[1]
    offset = absolute._offset(table)
    with absolute.lengthened(encoder, 4), torch.no_grad():
        place = absolute.positions(batch["attention_mask"], WINDOW, 4) + offset
        kinds = torch.zeros_like(batch["input_ids"])
        found = encoder({**batch, "position_ids": place, "token_type_ids": kinds})["sentence_embedding"]
        assert absolute._table(encoder)[1].num_embeddings == 4 * WINDOW + offset
    np.testing.assert_allclose(found.numpy(), plain, rtol=0, atol=1e-6)
    assert absolute._table(encoder)[1] is table


def test_what_has_no_table_or_policy_is_refused(encoder: SentenceTransformer) -> None:
    with pytest.raises(BtoksError, match="policy 'ntk': there is none"):
        absolute.encode(encoder, SHORT, policy="ntk")
    with pytest.raises(BtoksError, match="it has no table of positions; for rotary models attach"):
        absolute.encode(attached("qwen3"), SHORT)
