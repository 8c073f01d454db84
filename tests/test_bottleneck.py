"""Attaching: every family, every kind of input, any batch; prompt, embedding, new rows, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

import btoks
import tiny
from btoks import bottleneck
from btoks.errors import BtoksError
from items import KINDS, attached, fresh, kinds, last_states, near, padded, rendered, streamed, token_ids, token_states

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", tiny.NAMES)
def test_an_embedding_does_not_depend_on_its_batch(name: str) -> None:
    model, items = attached(name), list(kinds(name).values())
    single = np.concatenate([streamed(model, [item]) for item in items])
    fitted = [btoks.fit(model, item) for item in items]
    plain = [place for place, item in enumerate(items) if set(item) <= set(model.modalities)]
    assert len(plain) >= len(items) - 2
    for side in ("right", "left"):
        with padded(model, side):
            near(streamed(model, items), single)
            near(streamed(model, items[::-1])[::-1], single)
            near(model.encode(fitted), single)
            near(model.encode(fitted[::-1])[::-1], single)
            near(model.encode([items[place] for place in plain]), single[plain])
            mixed = model(model.preprocess(fitted[::-1]))
            near(mixed["sentence_embedding"].detach().numpy()[::-1], single)
    distances = np.abs(single[:, None] - single[None]).max(-1) + np.eye(len(items))
    assert distances.min() > 1e-3
    near(np.linalg.norm(single, axis=1), np.ones(len(items)))


@pytest.mark.parametrize("name", sorted(tiny.VISION - {"qwen3"}))
def test_clips_become_pictures_where_a_family_has_no_video(name: str) -> None:
    model = attached(name)
    fitted = btoks.fit(model, KINDS["video + text"])
    if "video" in model.modalities:
        assert set(fitted) == {"video", "text"}
    else:
        assert fitted["text"] == KINDS["video + text"]["text"]
        frames = KINDS["video + text"]["video"]["array"]
        assert np.array_equal(np.stack([np.asarray(image) for image in fitted["image"]]), frames)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_embedding_is_the_mean_of_the_states_at_the_tokens(name: str) -> None:
    model = attached(name)
    for item in (KINDS["text"], KINDS["image + text" if name in tiny.VISION else "short text"]):
        states_KD = token_states(model, item)
        assert states_KD.shape == (4, 64)
        by_hand = torch.nn.functional.normalize(states_KD.mean(0), dim=0).numpy()
        np.testing.assert_allclose(streamed(model, [item])[0], by_hand, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_without_tokens_it_is_the_state_of_the_last_token(name: str) -> None:
    model = attached(name, tokens=0)
    assert "<|btok_0|>" not in model.tokenizer.get_vocab()
    items = [KINDS["text"], KINDS["image" if name in tiny.VISION else "short text"]]
    assert all(rendered(model, item).endswith("\n") for item in items)
    by_hand = [torch.nn.functional.normalize(last_states(model, item)[-1], dim=0).numpy() for item in items]
    for side in ("right", "left"):
        with padded(model, side):
            np.testing.assert_allclose(model.encode(items), by_hand, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize(("name", "table"), [("qwen2_vl", 512), ("llava_onevision", None), ("qwen3", None)])
def test_the_new_rows_are_copies_of_the_end_of_sequence_row(name: str, table: int | None, tie: bool) -> None:
    before, processor = tiny.backbone(name, table=table, tie=tie)
    old_VD = before.get_input_embeddings().weight.detach().clone()
    old_head_VD = before.get_output_embeddings().weight.detach().clone()
    model = fresh(name, table=table, tie=tie)
    full, rows = bottleneck.generator(model), token_ids(model)
    new_VD, head_VD = full.get_input_embeddings().weight, full.get_output_embeddings().weight
    assert (new_VD is head_VD) == tie
    size = max(len(old_VD), len(model.tokenizer))
    assert len(new_VD) == len(head_VD) == full.config.get_text_config().vocab_size == size
    assert torch.equal(new_VD[rows], old_VD[[model.tokenizer.eos_token_id] * 4])
    others = [row for row in range(len(old_VD)) if row not in rows]
    assert torch.equal(new_VD[others], old_VD[others])
    if not tie:
        assert torch.equal(head_VD[: len(old_head_VD)], old_head_VD)
    assert processor.chat_template != model[0].processor.chat_template, "the processor given is not changed"


@pytest.mark.parametrize("init", bottleneck.INITS)
def test_how_the_rows_start_is_a_choice(init: str) -> None:
    old_VD = tiny.backbone("qwen3")[0].get_input_embeddings().weight.detach()
    model = fresh("qwen3", init=init)
    rows_KD = bottleneck.generator(model).get_input_embeddings().weight[token_ids(model)].detach()
    if init == "eos":
        assert torch.equal(rows_KD, old_VD[[model.tokenizer.eos_token_id] * 4])
    elif init == "mean":
        torch.testing.assert_close(rows_KD, old_VD.mean(0).expand(4, -1))
    elif init == "keep":
        assert torch.equal(rows_KD, old_VD[token_ids(model)])
    else:
        assert len(rows_KD.unique(dim=0)) == 4
        assert 0.5 < float(rows_KD.std() / old_VD.std()) < 2


@pytest.mark.parametrize("init", bottleneck.INITS)
def test_attaching_twice_gives_the_same_weights(init: str) -> None:
    """Growing a table draws new rows; they must not depend on what was drawn before."""
    torch.manual_seed(1)
    one = bottleneck.generator(fresh("llava_onevision", init=init)).state_dict()
    torch.manual_seed(2)
    two = bottleneck.generator(fresh("llava_onevision", init=init)).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_attach_takes_a_folder_or_what_it_holds(tmp_path: Path) -> None:
    folder = tiny.folder("qwen2_vl", tmp_path / "backbone")
    items = list(KINDS.values())
    expected = streamed(attached("qwen2_vl"), items)
    for given in (folder, str(folder)):
        np.testing.assert_array_equal(streamed(btoks.attach(given), items), expected)
    half = btoks.attach(folder, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert bottleneck.record(half)["backbone"] == folder.name
    cosines = (streamed(half, items[:2]) * expected[:2]).sum(1)
    assert (cosines > 0.99).all()


def test_vectors_can_be_cut() -> None:
    model = fresh("qwen3")
    items = [KINDS["text"], KINDS["short text"]]
    whole = model.encode(items)
    model.truncate_dim = 16
    np.testing.assert_array_equal(model.encode(items), whole[:, :16])
    near(streamed(model, items), whole[:, :16])
    assert model.get_embedding_dimension() == 16


def refused(*arguments: Any, **options: Any) -> str:
    with pytest.raises(BtoksError) as caught:
        btoks.attach(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_attached_to_is_told_in_one_line(tmp_path: Path) -> None:
    settings = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 400}
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(**settings))
    full, processor = tiny.backbone("qwen3")
    assert refused((t5, processor)).startswith("t5: not a decoder-only language model; ")
    t5.save_pretrained(tmp_path / "t5")
    processor.save_pretrained(tmp_path / "t5")
    assert "decoder-only" in refused(tmp_path / "t5")
    assert "no language-model head" in refused((full.model, processor))
    assert refused("nobody/has-this").startswith("nobody/has-this: ")
    assert refused(tmp_path / "nothing").startswith(f"{tmp_path / 'nothing'}: ")
    model = attached("qwen3")
    held = (bottleneck.generator(model), model[0].processor)
    assert "already" in refused(held)
    assert "already" in refused(held, tokens=0)


def test_mistyped_options_name_the_right_one() -> None:
    given = tiny.backbone("qwen3")
    before = {key: value.clone() for key, value in given[0].state_dict().items()}
    assert refused(given, init="eso").endswith("did you mean 'eos'?")
    assert refused(given, pooling="maen").endswith("did you mean 'mean'?")
    assert refused(given, pooling="maen", tokens=0).endswith("did you mean 'mean'?")
    assert refused(given, pooling={"name": "weighted", "slop": 2}).endswith("did you mean 'slope'?")
    assert refused(given, layout="btok").endswith("did you mean 'btoks'?")
    for tokens in (-1, 1.5, "4", True):
        assert refused(given, tokens=tokens).startswith(f"tokens={tokens!r}: ")
    assert all(torch.equal(value, given[0].state_dict()[key]) for key, value in before.items())
    btoks.attach(given)


def test_a_model_without_an_end_of_sequence_token_needs_another_start() -> None:
    full, processor = tiny.backbone("qwen3")
    processor.eos_token = None
    assert refused((full, processor)).endswith("pass init='mean'")
    assert "<|btok_0|>" not in processor.get_vocab()
    btoks.attach((full, processor), init="mean")


def test_plain_models_are_told_apart() -> None:
    model = fresh("qwen3")
    del model[0].config.btoks
    with pytest.raises(BtoksError, match=r"btoks\.attach"):
        bottleneck.record(model)
