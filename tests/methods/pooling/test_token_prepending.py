"""Token Prepending: the first words see the last one, in one pass, and without a window it is its prompt alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import btoks
import tiny
from btoks import prompts
from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from items import KINDS, features, near, rendered, streamed

NAMES = ["qwen3", "qwen3_vl", "smolvlm", "gemma3", "qwen3_5"]
TEXTS = [KINDS["text"], KINDS["short text"], {"text": 'say "one" word: '}]


def attach(name: str, tokens: int = 0, **settings: Any) -> Any:
    # Bottleneck tokens that start as the end of text would be the slot's own.
    pooling = {"name": "token_prepending", **settings}
    return btoks.attach(tiny.backbone(name, layers=4), tokens=tokens, pooling=pooling, init="random")


def by_hand(name: str, tokens: int, frame: str, layer: int, texts: list[str]) -> np.ndarray:
    """A prompt written out, the last states at a layer's output, their mean."""
    model = btoks.attach(tiny.backbone(name, layers=4), tokens=tokens, init="random")
    rows = []
    for text in texts:
        prompt = prompts.opening(model.tokenizer) + frame.format(text)
        prompt += "".join(prompts.token_name(place) for place in range(tokens))
        ids = model.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            out = generator(model).get_decoder()(input_ids=ids, output_hidden_states=True)
        hidden_TD = out.last_hidden_state[0] if layer == -1 else out.hidden_states[layer][0]
        rows.append(torch.nn.functional.normalize(hidden_TD[-max(tokens, 1) :].mean(dim=0), dim=0))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("tokens", [0, 4])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", [-1, -2])
def test_with_an_empty_window_it_is_the_prompt_alone(name: str, tokens: int, layer: int) -> None:
    model = attach(name, tokens, stop=1, exit=layer)
    frame = 'This sentence : "{}" means in one word: "'
    near(streamed(model, TEXTS), by_hand(name, tokens, frame, layer, [each["text"] for each in TEXTS]))
    assert rendered(model, {"text": "fox"}).endswith('sentence : "fox" means in one word: "' + _tokens(tokens))


def _tokens(count: int) -> str:
    return "".join(prompts.token_name(place) for place in range(count))


def first_word(model: Any, text: str) -> torch.Tensor:
    """The last-layer state of the text's first token."""
    batch = features(model, {"text": text})
    ids = batch["input_ids"][0].tolist()
    at = next(place for place in range(len(ids)) if '"' in model.tokenizer.decode(ids[: place + 1])) + 1
    with torch.no_grad():
        return model[0](batch)["token_embeddings"][0, at]


@pytest.mark.parametrize("name", NAMES[:4])
def test_the_first_word_sees_the_last(name: str) -> None:
    one, other = "a quick brown fox", "a quick brown dog"
    with_window, without = attach(name, exit=-1), attach(name, stop=1, exit=-1)
    assert torch.equal(first_word(without, one), first_word(without, other))
    assert (first_word(with_window, one) - first_word(with_window, other)).abs().max() > 1e-3


@pytest.mark.parametrize("tokens", [0, 4])
def test_the_slot_holds_the_sentence_before_each_layer_of_the_window(tokens: int) -> None:
    model = attach("qwen3", tokens, start=1, stop=3, exit=-1)
    batch = features(model, *TEXTS)
    seen: list[torch.Tensor] = []
    layers = generator(model).get_decoder().layers
    handles = [
        layer.self_attn.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True
        )
        for layer in layers
    ]
    with torch.no_grad():
        model[0](dict(batch))
    for handle in handles:
        handle.remove()
    assert len(seen) == len(layers), "one pass"
    for row, mask in enumerate(batch["attention_mask"]):
        slot = int((batch["input_ids"][row] == model.tokenizer.eos_token_id).int().argmax())
        last = int(mask.sum()) - max(tokens, 1)
        same = [torch.equal(hidden[row, slot], hidden[row, last]) for hidden in seen]
        assert same == [False, True, True, False]


@pytest.mark.parametrize("window", [{}, {"stop": 1}])
@pytest.mark.parametrize("tokens", [0, 4])
def test_meta_is_the_mean_over_its_prompts(window: dict[str, Any], tokens: int, monkeypatch: Any) -> None:
    from btoks.methods.pooling import token_prepending as module

    found = streamed(attach("gemma3", tokens, prompt="meta", **window), TEXTS)
    vectors = []
    for frame in module.PROMPTS["meta"]:
        monkeypatch.setitem(module.PROMPTS, "eol", (frame,))
        vectors.append(streamed(attach("gemma3", tokens, **window), TEXTS))
    assert len(vectors) == 8
    mean = np.mean(vectors, axis=0)
    near(found, mean / np.linalg.norm(mean, axis=1)[:, None])


def test_a_text_cannot_open_a_slot_or_a_part() -> None:
    for prompt in ("eol", "meta"):
        model = attach("qwen3", prompt=prompt)
        ids = features(model, {"text": "a <|im_end|> b"})["input_ids"][0]
        assert (ids == model.tokenizer.eos_token_id).sum() == (1 if prompt == "eol" else 15)


def test_prompts_survive_the_folder(tmp_path: Any) -> None:
    model = attach("qwen3_vl", prompt="meta", start=0, stop=2)
    btoks.save(model, tmp_path / "model")
    loaded = btoks.load(tmp_path / "model")
    assert np.array_equal(streamed(loaded, TEXTS), streamed(model, TEXTS))
    assert record(loaded)["pooling"]["prompt"] == "meta"
    with pytest.raises(BtoksError, match="this model takes text"):
        streamed(loaded, [KINDS["image"]])


def test_memories_are_taken_unless_there_are_several_prompts() -> None:
    (out,) = btoks.encode_stream(attach("qwen3", 4), TEXTS[:1], memories=True)
    assert out.memory is not None
    with pytest.raises(BtoksError, match="memory: an input taken in parts has none"):
        list(btoks.encode_stream(attach("qwen3", 4, prompt="meta"), TEXTS[:1], memories=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "eoll"}, "prompt='eoll': there is none; did you mean 'eol'?"),
        ({"start": 3, "stop": 2}, "layers 3 to 2: not a window"),
        ({"stop": 9}, "layers 1 to 9: the model has 4; stop at 4 or before"),
        ({"exit": 0}, "exit=0: the model has 4 layers"),
        ({"exit": -5}, "exit=-5: the model has 4 layers"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BtoksError) as caught:
        attach("qwen3", **settings).encode(TEXTS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_layouts_are_refused() -> None:
    with pytest.raises(BtoksError, match="layout 'chat': it frames texts in its own way"):
        btoks.attach(tiny.backbone("qwen3_vl"), pooling="token_prepending", layout="chat")
