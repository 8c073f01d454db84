"""LongEmbed: within the window nothing changes to the bit; beyond it each policy is its formula."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

import btoks
import tiny
from btoks import methods
from btoks.bottleneck import generator
from btoks.errors import BtoksError
from btoks.methods.pooling import _attention, _patches, _positions, longembed
from btoks.methods.pooling.longembed import POLICIES
from items import KINDS, attached, features, fresh, kinds, near, padded, streamed

LONG = [{"text": "the quick brown fox jumps over the lazy dog " * 6}, {"text": "dogs are red and " * 5}]
SHORT = [KINDS["short text"], {"text": "two people read"}]
WINDOW = 40


def pooling(policy: str, **more: Any) -> dict[str, Any]:
    return {"name": "longembed", "policy": policy, "window": WINDOW, **more}


def length(model: Any, item: Any) -> int:
    return int(features(model, item)["attention_mask"].sum())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", tiny.NAMES)
def test_within_the_window_nothing_changes_to_the_bit(name: str, policy: str) -> None:
    model, items = attached(name), [*SHORT, *kinds(name).values()]
    longest = max(length(model, item) for item in items)
    settings = {**pooling(policy), "window": longest}
    plain = streamed(model, items)
    with methods.apply(model, methods.create("pooling", settings)):
        assert np.array_equal(streamed(model, items), plain)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("policy", POLICIES)
def test_short_rows_beside_long_ones_are_as_ever(policy: str, side: str) -> None:
    model = fresh("qwen3_vl", pooling=pooling(policy))
    plain = streamed(attached("qwen3_vl"), [*SHORT, *LONG])
    with padded(model, side):
        found = model.encode([*SHORT, *LONG])
    near(found[:2], plain[:2])
    assert (np.abs(found[2:] - plain[2:]).max(axis=1) > 1e-3).all()
    near(found, np.concatenate([streamed(model, [item]) for item in [*SHORT, *LONG]]))


def moved(model: Any, item: Any, positions_T: torch.Tensor) -> np.ndarray:
    """The embedding with positions given by hand."""
    batch = features(model, item)
    with torch.no_grad():
        # Without a mask, positions that do not rise would be taken for several rows in one.
        mask = batch["attention_mask"]
        ids = {"input_ids": batch["input_ids"], "position_ids": positions_T[None]}
        states = generator(model).base_model(attention_mask=mask, **ids)
    return torch.nn.functional.normalize(states.last_hidden_state[:, -4:].mean(dim=1), dim=1).numpy()


@pytest.mark.parametrize("policy", ["grouped", "recurrent", "interpolation"])
def test_it_is_the_plain_model_at_moved_positions(policy: str) -> None:
    model = fresh("qwen3", pooling=pooling(policy))
    for item in LONG:
        count = length(model, item)
        place_T = torch.arange(count)
        group = -(-count // WINDOW)
        by_hand = {
            "grouped": place_T // group,
            "recurrent": place_T % WINDOW,
            "interpolation": place_T * WINDOW / count,
        }
        assert by_hand[policy].max() < WINDOW < count
        near(streamed(model, [item]), moved(attached("qwen3"), item, by_hand[policy]))


def test_ntk_is_a_model_with_a_larger_base() -> None:
    model = fresh("qwen3", pooling=pooling("ntk"))
    for item in LONG:
        factor, width = length(model, item) / WINDOW, 16
        backbone, processor = tiny.backbone("qwen3")
        rotary = backbone.model.rotary_emb
        base = rotary.config.rope_parameters["rope_theta"] * factor ** (width / (width - 2))
        rotary.inv_freq = 1.0 / base ** (torch.arange(0, width, 2) / width)
        near(streamed(model, [item]), streamed(btoks.attach((backbone, processor)), [item]))


def test_ntk_keeps_the_fastest_frequency_and_divides_the_slowest() -> None:
    rotary = generator(attached("gemma3")).get_decoder().rotary_emb
    other = _positions.stretched(rotary, 4.0)
    for name in ("full_attention_inv_freq", "sliding_attention_inv_freq"):
        before, after = getattr(rotary, name), getattr(other, name)
        torch.testing.assert_close(after[[0, -1]], before[[0, -1]] / torch.tensor([1.0, 4.0]))
        assert (after <= before).all()


@pytest.mark.parametrize("near_by", [8, None])
def test_selfextend_is_attention_pair_by_pair(near_by: int | None) -> None:
    """Layer by layer: every pair scored at its own distance, or at that of its groups."""
    model = fresh("qwen3", pooling=pooling("selfextend", near=near_by))
    inner, item = near_by or WINDOW // 2, LONG[0]
    batch = features(model, item)
    count = length(model, item)
    group = -(-(count - inner) // (WINDOW - inner))
    far_i = torch.arange(count) // group + inner - inner // group
    i, j = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
    distance = torch.where(i - j < inner, i - j, far_i[:, None] - torch.arange(count) // group)
    assert distance.tril().max() < WINDOW
    seen: list[tuple[Any, ...]] = []
    layers = generator(model).get_decoder().layers
    handles = [
        layer.self_attn.register_forward_hook(
            lambda module, args, kwargs, out: seen.append((module, kwargs["hidden_states"], out[0])), with_kwargs=True
        )
        for layer in layers
    ]
    with torch.no_grad():
        model(batch)
        for handle in handles:
            handle.remove()
        assert len(seen) == len(layers)
        for module, hidden, out in seen:
            near(out[0].numpy(), _pair_by_pair(module, hidden[0], distance, model).numpy())


def _pair_by_pair(module: Any, hidden_TD: torch.Tensor, distance_TT: torch.Tensor, model: Any) -> torch.Tensor:
    count = len(hidden_TD)
    query = module.q_norm(module.q_proj(hidden_TD).view(count, 4, 16)).transpose(0, 1)
    key = module.k_norm(module.k_proj(hidden_TD).view(count, 2, 16)).transpose(0, 1).repeat_interleave(2, 0)
    value = module.v_proj(hidden_TD).view(count, 2, 16).transpose(0, 1).repeat_interleave(2, 0)
    rotary = generator(model).get_decoder().rotary_emb
    scores = torch.full((4, count, count), -torch.inf)
    for i in range(count):
        cos, sin = rotary.forward(hidden_TD[None], distance_TT[i, : i + 1][None])
        row = query[None, :, i : i + 1].expand(-1, -1, i + 1, -1)
        turned = apply_rotary_pos_emb(row, row, cos, sin)[0][0]
        scores[:, i, : i + 1] = (turned * key[:, : i + 1]).sum(dim=-1) * module.scaling
    return module.o_proj((torch.softmax(scores, dim=-1) @ value).transpose(0, 1).reshape(count, -1))


def test_chunks_are_embedded_apart_and_averaged() -> None:
    for name in ("qwen3", "gemma3"):
        model, item = fresh(name, pooling=pooling("chunk")), LONG[0]
        ids = features(model, item)["input_ids"][0]
        head = int(ids[0] == model.tokenizer.bos_token_id)
        body, tail = ids[head:-5], ids[-5:]
        count = -(-len(body) // (WINDOW - 5 - head))
        assert count > 2
        rows = []
        for piece in body.tensor_split(count):
            row = torch.cat([ids[:head], piece, tail])
            assert len(row) <= WINDOW
            with torch.no_grad():
                states = generator(model).get_decoder()(input_ids=row[None]).last_hidden_state
            rows.append(torch.nn.functional.normalize(states[0, -4:].mean(dim=0), dim=0))
        near(streamed(model, [item])[0], torch.nn.functional.normalize(torch.stack(rows).mean(dim=0), dim=0).numpy())


@pytest.mark.parametrize(("first", "head"), [(None, 0), (9, 0), (0, 1)])
def test_chunks_hold_the_rows_own_ends_and_every_token_once(first: int | None, head: int) -> None:
    row = torch.arange(50)
    chunks = longembed._chunks(row, 20, 3, first)
    assert all(len(chunk) <= 20 for chunk in chunks)
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1
    assert all(torch.equal(chunk[-3:], row[-3:]) and torch.equal(chunk[:head], row[:head]) for chunk in chunks)
    assert torch.equal(torch.cat([chunk[head:-3] for chunk in chunks]), row[head:-3])


@pytest.mark.parametrize("policy", POLICIES)
def test_other_threads_run_as_ever(policy: str) -> None:
    """Whoever reads from a memory while another thread embeds does not meet what that pass has put on."""
    model, method = attached("qwen3"), methods.create("pooling", pooling(policy))
    decoder, batch = generator(model).get_decoder(), features(model, LONG[0])
    given = {key: batch[key] for key in ("input_ids", "attention_mask")}
    run = _patches.Run(decoder, batch["attention_mask"], batch["input_ids"], 4, 0, remembers=False)
    with torch.no_grad():
        plain = decoder(**given).last_hidden_state
        with method.patching(run), ThreadPoolExecutor(1) as other:
            assert torch.equal(
                other.submit(torch.no_grad()(lambda: decoder(**given).last_hidden_state)).result(), plain
            )
            assert torch.equal(decoder(**given).last_hidden_state, plain) == (policy == "chunk")
        assert torch.equal(decoder(**given).last_hidden_state, plain)


@pytest.mark.parametrize("policy", POLICIES)
def test_it_saves_and_loads(policy: str, tmp_path: Any) -> None:
    model = fresh("qwen3_vl", pooling=f"longembed:{policy},window={WINDOW}+weighted")
    btoks.save(model, tmp_path / "model")
    assert np.array_equal(streamed(btoks.load(tmp_path / "model"), LONG), streamed(model, LONG))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_memory_of_a_long_input_can_be_read_or_is_refused(policy: str) -> None:
    model = fresh("qwen3_vl", pooling=pooling(policy))
    (short,) = btoks.encode_stream(model, SHORT[:1], memories=True)
    assert short.memory is not None
    assert short.memory.position_B.dtype == torch.int64
    if policy not in ("grouped", "recurrent", "interpolation"):
        with pytest.raises(BtoksError, match="memory") as caught:
            list(btoks.encode_stream(model, LONG[:1], memories=True))
        assert "\n" not in str(caught.value)
        return
    (long,) = btoks.encode_stream(model, LONG[:1], memories=True)
    assert long.memory is not None
    assert WINDOW - 4 <= int(long.memory.position_B) <= WINDOW + 1
    assert long.memory.position_B.dtype == torch.int64
    assert len(btoks.read(model, long.memory, max_new_tokens=3)) == 1


def test_temperature_and_selfextend_meet_in_any_order() -> None:
    one, other = (
        fresh("qwen3", pooling=spec)
        for spec in (
            {"name": "chain", "parts": ["tempscale:0.5", pooling("selfextend")]},
            {"name": "chain", "parts": [pooling("selfextend"), "tempscale:0.5"]},
        )
    )
    near(streamed(one, LONG), streamed(other, LONG))
    assert np.abs(streamed(one, LONG) - streamed(fresh("qwen3", pooling=pooling("selfextend")), LONG)).max() > 1e-3


def test_nothing_is_left_of_the_kernel_after_an_error() -> None:
    model = attached("qwen3")
    config = generator(model).get_decoder().config
    with _attention.changed(generator(model).get_decoder(), lambda kernel: kernel):
        assert config._attn_implementation == "btoks_sdpa"
    with pytest.raises(ZeroDivisionError), methods.apply(model, methods.create("pooling", "tempscale")):
        raise ZeroDivisionError
    assert config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "ntkk"}, "policy='ntkk': there is none; did you mean 'ntk'?"),
        ({"window": 1}, "window=1: not a number of tokens"),
        ({"policy": "ntk", "near": 4}, "near=4: policy 'ntk' has no use for it"),
        ({"policy": "selfextend", "window": 8, "near": 8}, "near=8: the window is 8; choose a smaller one"),
        ({"policy": "chunk", "window": 5}, "window=5: the prompt's own tokens fill it"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        streamed(fresh("qwen3", pooling={"name": "longembed", **settings}), LONG)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
