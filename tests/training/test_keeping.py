"""What a step keeps between its passes changes how much is run, and nothing of what comes out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

import tiny
from btoks.bottleneck import generator
from btoks.training.keeping import Kept, frozen_tower
from btoks.training.loss import CondensationLoss
from items import KINDS, features, fresh, picture
from training.by_hand import NEGATIVES, POSITIVES, QUERIES, assert_close, by_hand, gradients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentence_transformers import SentenceTransformer

ALL, SOME = 1 << 30, 3_500_000
CHUNKS = 3  # of a column of five rows, the last one partial
VISIBLE = [KINDS["image"], KINDS["two images"], KINDS["short text"], {"image": picture(8, 120, 50), "text": "a bus"}]


def step(model: SentenceTransformer, *columns: Any, **options: Any) -> tuple[float, dict[str, torch.Tensor]]:
    loss = CondensationLoss(model, **{"side": "both", "mini_batch_size": 2, **options})
    torch.manual_seed(0)
    value = loss([features(model, *column) for column in columns or (QUERIES, POSITIVES)])
    value.backward()
    return value.item(), gradients(model)


def same(a: tuple[float, Any], b: tuple[float, Any]) -> bool:
    return a[0] == b[0] and a[1].keys() == b[1].keys() and all(torch.equal(a[1][name], b[1][name]) for name in a[1])


@contextmanager
def counted(module: nn.Module) -> Iterator[list[object]]:
    """How often a module's own pass is run, hooks or not."""
    runs: list[object] = []
    before = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        runs.append(None)
        return before(*args, **kwargs)

    module.__dict__["forward"] = forward
    try:
        yield runs
    finally:
        del module.__dict__["forward"]


def adapted(name: str = "qwen3_vl") -> SentenceTransformer:
    """A model with adapters on its text part and dropout: nothing else trains."""
    model = fresh(name)
    inside = r".*(language_model|text_model).*(q_proj|down_proj)"
    model.add_adapter(LoraConfig(r=4, lora_dropout=0.5, target_modules=inside, init_lora_weights=False))
    return model.train()


def text_passes(model: SentenceTransformer, keep: int, *columns: Any) -> int:
    with counted(generator(model).get_decoder()) as runs:
        step(model, *columns, keep=keep, side="none")
    return len(runs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("side", ["both", "none"])
def test_gradients_are_those_of_the_plain_loss(dtype: torch.dtype, side: str) -> None:
    model, within = fresh("qwen3_vl").to(dtype), {torch.float32: 1e-5, torch.float64: 1e-10}[dtype]
    plain = by_hand(model, QUERIES, POSITIVES, (NEGATIVES,), side=side)
    plain.backward()
    wanted = gradients(model)
    for keep in (0, SOME, 2 * SOME, ALL):
        value, found = step(model, QUERIES, POSITIVES, NEGATIVES, side=side, keep=keep)
        assert value == pytest.approx(plain.item(), rel=within)
        assert_close(found, wanted, within)


def test_what_is_kept_is_not_run_again() -> None:
    model = fresh("qwen3_vl")
    found = [text_passes(model, keep) for keep in (0, 1, SOME, ALL)]
    assert found[0] == found[1] == 2 * 2 * CHUNKS
    assert found[0] > found[2] > found[3] == 2 * CHUNKS


@pytest.mark.parametrize("keep", [1, SOME, ALL])
def test_dropout_keeps_its_masks(keep: int) -> None:
    model = adapted()
    wanted = step(model, keep=0)
    assert same(step(model, keep=keep), wanted)
    assert not same(step(model.eval(), keep=keep), wanted)


@pytest.mark.parametrize("keep", [SOME, ALL])
def test_mixed_precision_loses_no_gradient(keep: int) -> None:
    """Weights are cast once for all that runs under one autocast: with and without a graph must not share them."""
    model = fresh("qwen3_vl")
    with torch.autocast("cpu", torch.bfloat16):
        wanted, found = (step(model, keep=size) for size in (0, keep))
    assert same(found, wanted)


def test_checkpointed_layers_are_run_again_for_a_kept_graph() -> None:
    model = adapted()
    model[0].model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert same(step(model, keep=ALL), step(model, keep=0))


@pytest.mark.parametrize("name", sorted(tiny.VISION - {"qwen3_5"}))
def test_a_frozen_tower_looks_once(name: str) -> None:
    """Pictures are seen in the first pass alone, whether a graph is kept or only what was seen."""
    model = adapted(name)
    tower = frozen_tower(model[0].model)
    assert tower is not None
    columns = VISIBLE, list(reversed(VISIBLE))
    runs = {}
    for keep in (0, 300_000, ALL):
        with counted(tower) as looks:
            runs[keep] = step(model, *columns, keep=keep), len(looks)
    assert runs[0][1] == 2 * runs[ALL][1] == 2 * runs[300_000][1]
    assert same(runs[300_000][0], runs[0][0])
    assert same(runs[ALL][0], runs[0][0])
    assert text_passes(model, 300_000, *columns) > text_passes(model, ALL, *columns)


def test_a_tower_that_trains_is_run_again() -> None:
    model = fresh("qwen3_vl")
    assert frozen_tower(model[0].model) is None
    assert frozen_tower(fresh("qwen3")[0].model) is None


@pytest.mark.parametrize("keep", [300_000, ALL])
def test_a_frozen_tower_that_draws_random_numbers(keep: int) -> None:
    """The text's dropout goes on as if the tower had drawn its own again."""
    model = adapted()
    tower: Any = frozen_tower(model[0].model)
    tower.blocks[0].register_forward_hook(lambda _, __, out: nn.functional.dropout(out, 0.1))
    assert same(step(model, keep=keep), step(model, keep=0))


def test_clips_are_kept_beside_pictures() -> None:
    model = adapted()
    columns = [KINDS["video"], KINDS["image"], {**KINDS["image"], **KINDS["video"]}, KINDS["text"]], POSITIVES[:4]
    assert same(step(model, *columns, keep=300_000), step(model, *columns, keep=0))


def test_nothing_stays_behind_after_an_error() -> None:
    model = adapted()
    tower: Any = frozen_tower(model[0].model)
    tower.blocks[0].register_forward_pre_hook(_stop)
    with pytest.raises(RuntimeError, match="stop"):
        step(model, keep=ALL)
    assert "forward" not in tower.__dict__


def _stop(*_: Any) -> None:
    raise RuntimeError("stop")


def test_bytes_are_counted_and_what_was_seen_goes_first() -> None:
    """A linear layer keeps its input: 4·rows·width bytes. Its graph gives way to what the tower says."""
    layer, tower = nn.Linear(10, 10), nn.Identity()
    kept = Kept(layer, tower, limit=1000, last=(0, 2))
    kept.run((0, 1), lambda: layer(torch.ones(20, 10)))
    assert kept.left == 1000 - 4 * 20 * 10
    with kept.seeing((0, 2), first=True):
        tower(torch.ones(100))
    assert kept.left == 1000 - 4 * 100
    assert kept.take((0, 1)) is None
    with kept.seeing((0, 2), first=False):
        assert torch.equal(tower(torch.zeros(100)), torch.ones(100))
    assert not kept.run((0, 2), lambda: layer(torch.ones(20, 10))).requires_grad
