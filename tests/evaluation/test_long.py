"""Long texts: each holds one fact within its length; a model trained on a short window finds it by a policy."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

import btoks
from btoks.bottleneck import record
from btoks.errors import BtoksError
from btoks.evaluation import long
from btoks.training.scratch import Size, backbone
from command import run
from items import attached

WINDOW, STEPS = 64, 90


@functools.cache
def trained() -> Any:
    """A model that finds facts in texts of up to the window, after some seconds of contrast."""
    telling = [
        f"The pass key of {name} is 1 2 3 4 5 6 7 8 9 0. What is the pass key of {name}?" for name in long.people()
    ]
    size = Size(600, hidden=64, layers=2, heads=4, feed=128, vision_hidden=32, vision_layers=1, length=WINDOW)
    model = btoks.attach(backbone([*telling, *long._DULL * 20], size), tokens=2)
    made = [
        long.hay("passkey", length, model.tokenizer, candidates=400, queries=400, seed=length)
        for length in range(32, 57, 3)
    ]
    rng, optimizer = np.random.default_rng(0), torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        chosen = rng.permutation(400)[:32]
        sides = [made[step % 9].questions, made[step % 9].texts]
        asked_BD, held_BD = (
            model(model.preprocess([{"text": side[at]} for at in chosen]))["sentence_embedding"] for side in sides
        )
        loss = torch.nn.functional.cross_entropy(asked_BD @ held_BD.T / 0.05, torch.arange(32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def test_beyond_the_window_policies_find_what_a_cut_text_does_not_hold() -> None:
    """At four windows: cut texts at chance, several policies where short texts are."""
    model = trained()
    options: dict[str, Any] = {"tasks": ["passkey"], "window": WINDOW, "queries": 25, "candidates": 50}
    (short,) = long.measure(model, lengths=[56], chosen=["plain"], **options)
    assert short.accuracy >= 0.95
    assert short.beyond is None
    lines = long.measure(model, lengths=[4 * WINDOW], chosen=["cut", "ntk", "grouped", "recurrent"], **options)
    found = {line.policy: line for line in lines}
    assert found["cut"].beyond is not None
    assert found["cut"].beyond <= 0.1
    for policy in ("ntk", "grouped", "recurrent"):
        assert (found[policy].beyond or 0) >= 0.8, policy
    assert record(model)["max_tokens"] == 8192
    assert record(model)["pooling"] == {"name": "mean"}


@pytest.mark.parametrize("task", long.TASKS)
@pytest.mark.parametrize("length", [200, 600])
def test_texts_hold_their_fact_and_keep_their_length(task: str, length: int) -> None:
    tokenizer = attached("qwen3").tokenizer
    made = long.hay(task, length, tokenizer, candidates=20, queries=5)
    assert (len(made.texts), len(made.questions)) == (20, 5)
    counts = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in made.texts]
    assert max(counts) <= length
    if task == "passkey":
        assert min(counts) > length - 60
    for question, text in zip(made.questions, made.texts, strict=False):
        name = next(name for name in long.people() if name in question)
        assert name in text
        assert sum(name in other for other in made.texts) == 1
    for text, begin in zip(made.texts, made.begins, strict=True):
        rest = tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids[begin:])
        assert any(name in rest for name in long.people())
    assert len(set(made.begins)) > 5 or length == 200
    again = long.hay(task, length, tokenizer, candidates=20, queries=5)
    assert again == made
    assert long.hay(task, length, tokenizer, candidates=20, queries=5, seed=1) != made


def test_within_the_window_every_policy_is_the_model_itself() -> None:
    lines = long.measure(attached("qwen3_vl"), lengths=[150], queries=3, candidates=6)
    assert {line.policy for line in lines} == set(long.policies())
    for task in long.TASKS:
        assert len({line.accuracy for line in lines if line.task == task}) == 1


def test_a_model_with_changes_of_its_own_keeps_them() -> None:
    from items import fresh

    model = fresh("qwen3", pooling="tempscale:0.7+weighted")
    long.measure(model, tasks=["passkey"], lengths=[80], window=40, chosen=["grouped"], queries=2, candidates=3)
    assert btoks.methods.create("pooling", record(model)["pooling"]).parts == ("tempscale:0.7", "weighted")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["nedle"]}, "'nedle': there is none; did you mean 'needle'?"),
        ({"chosen": ["ntkk"]}, "'ntkk': there is none; did you mean 'ntk'?"),
        ({"lengths": [5]}, "length 5: a fact alone takes more tokens; pass larger ones"),
        ({"queries": 9, "candidates": 8}, "9 queries, 8 candidates: no such benchmark"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: Any, message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        long.measure(attached("qwen3"), **{"lengths": [100], **options})
    assert message in str(caught.value)


def test_the_command_prints_a_table_and_json(tmp_path: Any) -> None:
    btoks.save(attached("qwen3_vl"), tmp_path / "model")
    few = ("--lengths", "120", "--window", 60, "--task", "passkey", "--queries", 6, "--candidates", 8)
    ran = run("eval", "long", tmp_path / "model", *few, "--policy", "cut,grouped", "--json")
    assert ran.status == 0, ran.err
    assert [(line["policy"], line["length"]) for line in ran.records] == [("cut", 120), ("grouped", 120)]
    shown = run("eval", "long", tmp_path / "model", *few, "--policy", "cut,grouped").out
    assert "past the window" in shown
    assert "grouped" in shown
    assert run("eval", "long", tmp_path / "model", "--lengths", "12,x").line == (
        "btoks: --lengths 12,x: not numbers of tokens; give them with commas, such as 256,512"
    )
