"""LateInteraction: K unit vectors an item, and MaxSim wherever embeddings are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from btoks.evaluation.ranking import rank_all, rank_lists
from btoks.similarity import maxsim, similarity, states_of
from btoks.training.loss import CondensationLoss
from items import KINDS, attached, features, fresh, near, streamed, token_states
from training.by_hand import NEGATIVES, POSITIVES, QUERIES, assert_close, gradients


def by_hand(queries_QKD: torch.Tensor, documents_NKD: torch.Tensor) -> torch.Tensor:
    scores = [
        [sum(max(float(i @ j) for j in other) for i in own) / len(own) for other in documents_NKD]
        for own in queries_QKD
    ]
    return torch.tensor(scores)


def test_it_is_the_unit_states_side_by_side() -> None:
    model = fresh("qwen2_vl", tokens=3, pooling="late_interaction")
    states_KD = normalize(token_states(model, KINDS["image"]), dim=1)
    found_E = torch.from_numpy(streamed(model, [KINDS["image"]])[0])
    torch.testing.assert_close(found_E, states_KD.flatten() / 3**0.5, rtol=0, atol=1e-6)
    assert states_of(model) == 3


def test_it_is_compared_by_maxsim() -> None:
    model = fresh("qwen3", tokens=3, pooling="late_interaction")
    items = [KINDS["text"], KINDS["short text"], {"text": "two people read"}]
    found = similarity(model, *(torch.from_numpy(streamed(model, items)),) * 2)
    states = torch.stack([normalize(token_states(model, item), dim=1) for item in items])
    near(found.numpy(), by_hand(states, states).numpy())
    near(found.diagonal().numpy(), np.ones(3))
    plain = torch.from_numpy(streamed(attached("qwen3"), items))
    near(similarity(attached("qwen3"), plain, plain).numpy(), (plain @ plain.T).numpy())


def test_rankings_use_it() -> None:
    """The vectors of a document in another order are the same document: a dot product would not know."""
    luck = np.random.default_rng(0)
    queries, corpus = (luck.normal(size=(count, 3, 8)).astype(np.float32) for count in (5, 40))
    corpus[7], corpus[8] = queries[2][::-1], -queries[2]
    flat = [each.reshape(len(each), -1) for each in (queries, corpus)]
    wanted = maxsim(*map(torch.from_numpy, flat), 3)
    places, scores = rank_all(*flat, 4, states=3)
    assert places[2, 0] == 7
    near(scores, wanted.topk(4, dim=1).values.numpy())
    assert places.tolist() == wanted.topk(4, dim=1).indices.tolist()
    lists = [np.arange(query, 40, 3) for query in range(5)]
    for query, (own, values) in enumerate(rank_lists(*flat, lists, states=3)):
        near(values, np.sort(wanted[query, lists[query]].numpy())[::-1])
        assert set(own) == set(lists[query])


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_the_loss_compares_by_maxsim(chunk: int) -> None:
    model = fresh("qwen3_vl", pooling="late_interaction").to(torch.float64)
    columns = QUERIES, POSITIVES, NEGATIVES
    states = [model(features(model, *items))["sentence_embedding"].unflatten(1, (4, -1)) for items in columns]
    queries, documents = normalize(states[0], dim=2), normalize(torch.cat(states[1:]), dim=2)
    scores = torch.einsum("qid,njd->qnij", queries, documents).amax(3).mean(2)
    value = -torch.log_softmax(scores / 0.02, dim=1).diagonal().mean()
    value.backward()
    wanted = gradients(model)
    found = CondensationLoss(model, weight=0.0, mini_batch_size=chunk)([features(model, *items) for items in columns])
    found.backward()
    assert found.item() == pytest.approx(value.item(), rel=1e-6)
    assert_close(gradients(model), wanted, 1e-5)  # the norms round to fp32
