"""The cached loss equals the plain one: at every chunk size, on every side, with everything that can be switched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

import tiny
from btoks import condensation
from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from btoks.training.loss import CondensationLoss
from items import KINDS, attached, features, fresh, padded, picture
from training.by_hand import NEGATIVES, POSITIVES, QUERIES, assert_close, by_hand, gradients, plain

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WITHIN = {torch.float32: 1e-5, torch.float64: 1e-10}


def model_of(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> SentenceTransformer:
    return fresh(name, **options).to(dtype)


def batch_of(model: SentenceTransformer, *columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [features(model, *column) for column in columns]


def items_of(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return (QUERIES, POSITIVES) if name in tiny.VISION else (plain(QUERIES), plain(POSITIVES))


def run(model: SentenceTransformer, loss: CondensationLoss, *columns: Any, **options: Any) -> tuple[float, Any]:
    value = loss(batch_of(model, *columns), **options)
    value.backward()
    return value.item(), gradients(model)


def expect(model: SentenceTransformer, *columns: Any, **options: Any) -> tuple[float, Any]:
    value = by_hand(model, *columns, **options)
    value.backward()
    return value.item(), gradients(model)


def assert_equal(found: tuple[float, Any], wanted: tuple[float, Any], within: float = 1e-10) -> None:
    assert abs(found[0] - wanted[0]) <= within * max(1, abs(wanted[0]))
    assert_close(found[1], wanted[1], within)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_every_chunk_size_equals_the_whole_batch(name: str, dtype: torch.dtype) -> None:
    model, columns = model_of(name, dtype), items_of(name)
    wanted = expect(model, *columns, side="both")
    for chunk in (1, 2, 3, 5):
        found = run(model, CondensationLoss(model, side="both", mini_batch_size=chunk), *columns)
        assert_equal(found, wanted, WITHIN[dtype])


@pytest.mark.parametrize("side", ["positive", "query", "none"])
def test_sides(side: str) -> None:
    model = model_of("qwen3_vl")
    found = run(model, CondensationLoss(model, side=side, mini_batch_size=2), QUERIES, POSITIVES)
    assert_equal(found, expect(model, QUERIES, POSITIVES, side=side))


def test_chunks_by_tokens() -> None:
    model = model_of("qwen3_vl")
    loss = CondensationLoss(model, mini_batch_num_tokens=30)
    assert_equal(run(model, loss, QUERIES, POSITIVES), expect(model, QUERIES, POSITIVES))


@pytest.mark.parametrize("name", sorted(tiny.VISION - {"qwen3_5"}))
def test_chunks_of_every_visual_layout(name: str) -> None:
    """Pictures come as patches by grid, as tiles, or as rows of samples: each must stay with its own text."""
    model = model_of(name)  # parts of some families compute in fp32 whatever their type
    queries = [{**item, "text": "who"} for item in (KINDS["image"], KINDS["two images"], KINDS["short text"])]
    columns = (queries, [{"image": picture(8, 120, 50)}, {"text": "a bus"}, {"image": picture(9), "text": "fox"}])
    found, wanted = (run(model, CondensationLoss(model, mini_batch_size=size), *columns) for size in (1, 3))
    assert_equal(found, wanted, 1e-5)


def test_left_padding_changes_nothing() -> None:
    model = model_of("qwen3")
    loss, columns = CondensationLoss(model, side="both", mini_batch_size=2), items_of("qwen3")
    wanted = run(model, loss, *columns)
    with padded(model, "left"):
        assert_equal(run(model, loss, *columns), wanted)


def test_a_batch_without_any_target_is_contrastive() -> None:
    model = model_of("qwen3_vl")
    pictures = [{"image": picture(place)} for place in range(5)]
    found = run(model, CondensationLoss(model), QUERIES, pictures)
    assert_equal(found, expect(model, QUERIES, pictures, side="none"))


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"side": "none"}, {"weight_steps": 0}], ids=str)
@pytest.mark.parametrize("chunk", [2, 5])
def test_without_generation_it_is_the_contrastive_loss_bit_for_bit(off: dict[str, Any], chunk: int) -> None:
    """On rows of one length, of which the stock loss makes the same chunks."""
    model = fresh("qwen3_vl")
    columns = [{"image": picture(place), "text": "who"} for place in range(5)], [{"text": text} for text in "abcde"]
    stock = CachedMultipleNegativesRankingLoss(model, scale=1 / 0.02, mini_batch_size=chunk)
    wanted = stock(batch_of(model, *columns), None)
    wanted.backward()
    grads = gradients(model)
    passes: list[object] = []
    handle = generator(model).get_decoder().register_forward_hook(lambda *_: passes.append(None))
    value, found = run(model, CondensationLoss(model, mini_batch_size=chunk, keep=0, **off), *columns)
    handle.remove()
    assert value == wanted.item()
    assert found.keys() == grads.keys()
    assert all(torch.equal(found[name], grads[name]) for name in grads)
    assert len(passes) == 2 * 2 * -(-5 // chunk), "two columns, each chunk once without and once with its graph"


def test_the_weight_ends_at_its_step() -> None:
    model = model_of("qwen3")
    columns = items_of("qwen3")
    loss = CondensationLoss(model, weight=2.0, weight_steps=3)
    for step, weight in ((0, 2.0), (2, 2.0), (3, 0.0), (4, 0.0)):
        loss.step = step
        assert_equal(run(model, loss, *columns), expect(model, *columns, weight=weight))
        assert (loss.last.generation is None) == (weight == 0)


def test_the_parts_are_told() -> None:
    model = model_of("qwen3")
    loss = CondensationLoss(model, weight=3.0)
    value, _ = run(model, loss, *items_of("qwen3"))
    assert loss.last.contrastive + 3 * loss.last.generation == pytest.approx(value)
    assert not loss.last.contrastive.requires_grad


def test_hard_negatives_are_documents_and_say_nothing() -> None:
    model = model_of("qwen3_vl")
    loss = CondensationLoss(model, side="both", mini_batch_size=2)
    found = run(model, loss, QUERIES, POSITIVES, NEGATIVES)
    assert_equal(found, expect(model, QUERIES, POSITIVES, (NEGATIVES,), side="both"))


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_repeated_class_labels_are_no_negatives(chunk: int) -> None:
    """Five pictures of two classes: the other pictures' equal labels leave the denominator."""
    model = model_of("qwen3_vl")
    names = ["fox", "bus", "fox", "fox", "bus"]
    labels = [{"text": name} for name in names]
    hashes = torch.tensor([hash(name) for name in names])
    same = hashes[:, None] == hashes
    found = run(model, CondensationLoss(model, mini_batch_size=chunk), QUERIES, labels, labels=hashes)
    assert_equal(found, expect(model, QUERIES, labels, same=same))
    assert abs(found[0] - expect(model, QUERIES, labels)[0]) > 0.1


def test_a_hard_negative_that_equals_a_positive_is_no_negative() -> None:
    model = model_of("qwen3")
    columns = (*items_of("qwen3"), NEGATIVES)
    hashes = torch.tensor([[1, 2], [3, 4], [5, 3], [2, 6], [7, 7]])
    same = hashes[:, :1] == hashes.T.flatten()
    found = run(model, CondensationLoss(model, mini_batch_size=2), *columns, labels=hashes)
    assert_equal(found, expect(model, *columns[:2], (NEGATIVES,), same=same))


def test_hashes_are_integers() -> None:
    model = fresh("qwen3")
    with pytest.raises(BtoksError, match="not integers"):
        CondensationLoss(model)(batch_of(model, *items_of("qwen3")), torch.rand(5))


def test_a_learnt_temperature_gets_its_gradient() -> None:
    model, columns = model_of("qwen3"), items_of("qwen3")
    log = torch.tensor(0.05, dtype=torch.float64).log().requires_grad_()
    value = by_hand(model, *columns, temperature=log.exp())
    (value / 4).backward()
    wanted = gradients(model)
    for chunk in (2, 5):
        loss = CondensationLoss(model, temperature=0.05, learn_temperature=True, mini_batch_size=chunk)
        assert loss.temperature == pytest.approx(0.05)
        found = loss(batch_of(model, *columns))
        (found / 4).backward()
        assert_equal((found.item(), gradients(model)), (value.item(), wanted))
        assert loss.log_temperature.grad.item() == pytest.approx(log.grad.item(), rel=1e-9)
    with torch.no_grad():
        assert loss(batch_of(model, *columns)).item() == pytest.approx(value.item())


def test_gradients_accumulate() -> None:
    model = model_of("qwen3")
    queries, positives = items_of("qwen3")
    loss = CondensationLoss(model, mini_batch_size=2)
    halves = [(queries[:3], positives[:3]), (queries[2:], positives[2:])]
    for half in halves:
        (loss(batch_of(model, *half)) / 2).backward()
    found = gradients(model)
    sum(by_hand(model, *half) / 2 for half in halves).backward()
    assert_close(found, gradients(model), 1e-10)


def test_two_passes_before_a_backward_keep_apart() -> None:
    model = model_of("qwen3")
    queries, positives = items_of("qwen3")
    loss = CondensationLoss(model, mini_batch_size=2)
    first, second = (loss(batch_of(model, queries[at:], positives[at:])) for at in (0, 2))
    (second + first).backward()
    found = gradients(model)
    sum(by_hand(model, queries[at:], positives[at:]) for at in (0, 2)).backward()
    assert_close(found, gradients(model), 1e-10)


@pytest.mark.parametrize("keep", [0, None])
def test_dropout_is_drawn_again_alike(keep: int | None) -> None:
    """The second pass of a chunk, generation included, sees the masks of its first."""
    model = model_of("qwen3")
    model.add_adapter(
        LoraConfig(r=4, lora_dropout=0.5, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    model.to(torch.float64).train()
    columns = [[{"text": text} for text in texts] for texts in ("abcde", "vwxyz")]  # one length: they stay in order
    torch.manual_seed(1)
    wanted = expect(model, *columns, side="both")
    torch.manual_seed(1)
    found = run(model, CondensationLoss(model, side="both", mini_batch_size=5, keep=keep), *columns)
    assert_equal(found, wanted)
    torch.manual_seed(2)
    assert abs(run(model, CondensationLoss(model, side="both"), *columns)[0] - wanted[0]) > 1e-3


@pytest.mark.parametrize("mask", [True, False])
def test_gradient_checkpointing_changes_nothing(mask: bool) -> None:
    model = model_of("qwen3_vl").train()
    loss = CondensationLoss(model, side="both", mask=mask, mini_batch_size=2)
    wanted = run(model, loss, QUERIES, POSITIVES)
    model[0].model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert_equal(run(model, loss, QUERIES, POSITIVES), wanted)


@pytest.mark.parametrize("side", ["right", "left"])
def test_without_the_mask_the_whole_input_is_seen(side: str) -> None:
    """`mask=False` is the ordinary next-token loss over `[input][btoks][prefix target suffix]`."""
    model = model_of("qwen3")
    queries, positives = items_of("qwen3")
    full, notes = generator(model), record(model)
    losses = []
    for query, positive in zip(queries, positives, strict=True):
        seen = features(model, query)["input_ids"][0].tolist()
        text = positive["text"].strip()
        prefix, said = (model.tokenizer(each).input_ids for each in (notes["prefix"], text + notes["suffix"]))
        logits = full(input_ids=torch.tensor([seen + prefix + said])).logits[0, -len(said) - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(said)) if text else torch.zeros(()))
    wanted = by_hand(model, queries, positives, weight=0.0) + 5 * torch.stack(losses).mean()
    wanted.backward()
    grads = gradients(model)
    with padded(model, side):
        found = run(model, CondensationLoss(model, mask=False, mini_batch_size=2), queries, positives)
    assert_equal(found, (wanted.item(), grads), 1e-5)  # the norms round to fp32


def test_a_memory_of_whole_inputs_is_kept_whole(tmp_path: Any) -> None:
    model = attached("qwen3")
    held = condensation.memory(model, features(model, *plain(QUERIES)), full=True)[1]
    held.save(tmp_path / "memory.safetensors")
    again = condensation.Memory.load(tmp_path / "memory.safetensors")
    assert torch.equal(again.mask_BK, held.mask_BK)
    assert held[[1]].mask_BK.shape == (1, held.keys_LBHKD.shape[3])
    assert condensation.read(model, again, max_new_tokens=4) == condensation.read(model, held, max_new_tokens=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"side": "positiv"}, "did you mean 'positive'"), ({"temperature": 0}, "not above 0")],
)
def test_wrong_settings_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BtoksError, match=message):
        CondensationLoss(attached("qwen3"), **settings)
