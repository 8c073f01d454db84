"""LoRA and DoRA: apart they reload exactly, merged closely, and saving changes nothing in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM

import btoks
from btoks import bottleneck, doctor
from btoks.errors import BtoksError
from items import KINDS, features, fresh, names, same, token_ids, vectors, weights

if TYPE_CHECKING:
    pass


def adapted(name: str, *, dora: bool, tie: bool = False) -> SentenceTransformer:
    """A model with a trained adapter on its layers and on the rows of its tokens."""
    model = fresh(name, tie=tie)
    torch.manual_seed(0)
    rows = {"embed_tokens": token_ids(model)}
    config = LoraConfig(
        target_modules=["q_proj", "o_proj", "down_proj"],
        r=4,
        lora_alpha=32,
        lora_dropout=0.1,
        use_dora=dora,
        init_lora_weights=False,
        trainable_token_indices=rows,
    )
    model.add_adapter(config)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "magnitude" in key:
                weight.mul_(1.3)
            elif "trainable_tokens" in key:
                weight.add_(torch.randn_like(weight))
    return model.eval()


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3"])
def test_adapters_reload_exactly_apart_and_closely_merged(name: str, dora: bool, tie: bool, tmp_path: Path) -> None:
    model = adapted(name, dora=dora, tie=tie)
    before, expected = weights(model), vectors(model, name)
    assert np.abs(expected - vectors(fresh(name, tie=tie), name)).max() > 1e-2, "the adapter does something"
    btoks.save(model, tmp_path / "apart", merge=False)
    btoks.save(model, tmp_path / "merged")
    assert same(weights(model), before), "saving changes nothing in memory"
    assert np.array_equal(vectors(model, name), expected)
    apart, merged = btoks.load(tmp_path / "apart"), btoks.load(tmp_path / "merged")
    assert np.array_equal(vectors(apart, name), expected)
    assert same(weights(apart), before)
    np.testing.assert_allclose(vectors(merged, name), expected, rtol=0, atol=1e-6)
    assert not any("lora" in key for key in weights(merged))
    assert np.array_equal(vectors(SentenceTransformer(str(tmp_path / "merged")), name), vectors(merged, name))
    assert np.array_equal(vectors(btoks.load(tmp_path / "apart" / "base"), name), vectors(fresh(name, tie=tie), name))
    assert "4 bottleneck tokens" in (tmp_path / "apart" / "README.md").read_text()
    assert all(finding.agrees for place in ("apart", "merged") for finding in doctor.check(tmp_path / place))


def test_an_opened_adapter_can_be_saved_again(tmp_path: Path) -> None:
    model = adapted("qwen3", dora=True)
    btoks.save(model, tmp_path / "one", merge=False)
    opened = btoks.load(tmp_path / "one")
    btoks.save(opened, tmp_path / "one", merge=False)
    assert np.array_equal(vectors(btoks.load(tmp_path / "one"), "qwen3"), vectors(model, "qwen3"))
    btoks.save(opened, tmp_path / "one")
    assert not (tmp_path / "one" / "adapter_config.json").exists()
    np.testing.assert_allclose(
        vectors(btoks.load(tmp_path / "one"), "qwen3"), vectors(model, "qwen3"), rtol=0, atol=1e-6
    )


def test_a_merged_model_generates_as_the_adapted_one(tmp_path: Path) -> None:
    model = adapted("qwen3", dora=True, tie=True)
    btoks.save(model, tmp_path / "model")
    ids = features(model, KINDS["text"])["input_ids"]
    full = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        expected = bottleneck.generator(model)(input_ids=ids).logits
        rows = [row for row in range(expected.shape[-1]) if row not in token_ids(model)]
        torch.testing.assert_close(full(input_ids=ids).logits[..., rows], expected[..., rows], rtol=0, atol=1e-5)


def test_adapters_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    btoks.save(adapted("qwen3", dora=False), tmp_path / "model", merge=False)
    (tmp_path / "model" / "adapter_model.safetensors").unlink()
    with pytest.raises(BtoksError, match=r"no adapter_model\.safetensors"):
        btoks.load(tmp_path / "model")
    model = adapted("qwen3", dora=False)
    model[0].model.add_adapter(LoraConfig(target_modules=["v_proj"]), adapter_name="second")
    with pytest.raises(BtoksError, match="2 of them"):
        btoks.save(model, tmp_path / "two", merge=False)
    assert names(tmp_path) == ["model"]
