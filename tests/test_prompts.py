"""The prompt: visuals first, then text, then the tokens; other layouts; texts that spell special tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import processors

import btoks
import tiny
from btoks import prompts
from items import (
    KINDS,
    attached,
    features,
    fresh,
    kinds,
    picture,
    rendered,
    token_ids,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


TOKENS = "<|btok_0|><|btok_1|><|btok_2|><|btok_3|>"

BARE = {
    "llava_onevision": ("<image>", "<video>"),
    "smolvlm": ("<image>", None),
    "gemma3": ("<start_of_image>", None),
    "internvl": ("<IMG_CONTEXT>", "<video>"),
    "qwen3": (None, None),
}


def template_string(model: SentenceTransformer, *content: Any, system: str = "") -> str:
    messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    parts = [{"type": "text", "text": part[1:]} if part[0] == "=" else {"type": part} for part in content]
    return model[0].processor.apply_chat_template([*messages, {"role": "user", "content": parts}], tokenize=False)


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_prompt_is_visuals_then_text_then_one_newline_then_the_tokens(name: str) -> None:
    """Each visual stands in its own boundary tokens, on its own line, whatever the order of the parts."""
    model = attached(name)
    _, processor = tiny.backbone(name)
    image, video = prompts.visuals_of(processor).image, prompts.visuals_of(processor).video
    if name.startswith("qwen"):
        # Qwen3's processors write a clip's boundary tokens themselves, once for each time stamp.
        own = name in ("qwen3_vl", "qwen3_5")
        expected = ("<|vision_start|><|image_pad|><|vision_end|>", "<|video_pad|>")
        expected = (expected[0], expected[1] if own else f"<|vision_start|>{expected[1]}<|vision_end|>")
        assert (image, video) == (expected if name in tiny.VISION else (None, None))
    else:
        assert (image, video) == BARE[name]
    assert template_string(model, "=fox") == f"fox\n{TOKENS}"
    for kind, piece in (("image", image), ("video", video)):
        if piece is None:
            continue
        assert template_string(model, kind) == f"{piece}\n{TOKENS}"
        assert template_string(model, kind, kind) == f"{piece}\n{piece}\n{TOKENS}"
        expected_text = f"{piece}\nfind: a fox\n{TOKENS}"
        assert template_string(model, kind, "=a fox", system="find:") == expected_text
        assert template_string(model, "=a fox", kind, system="find: ") == expected_text
        assert template_string(model, "=a fox\n\n", kind, system="find:") == expected_text


@pytest.mark.parametrize("name", tiny.NAMES)
def test_the_same_tokens_whatever_the_order_of_the_fields(name: str) -> None:
    model, ids = attached(name), token_ids(attached(name))
    for kind, item in kinds(name).items():
        batch = features(model, item, prompt="find the fox:")
        row = batch["input_ids"][0].tolist()
        assert row[-4:] == ids
        assert not set(row[:-4]) & set(ids)
        turned = features(model, dict(reversed(item.items())), prompt="find the fox:")
        assert turned["input_ids"].tolist() == [row], kind
        text = rendered(model, item, prompt="find the fox:")
        end = f"find the fox:{' ' + item['text'] if 'text' in item else ''}\n{TOKENS}"
        assert text.endswith(end)
        assert "fox" not in text[: -len(end)]


def test_qwen_sees_exactly_this() -> None:
    model = attached("qwen2_vl")
    image = r"<\|vision_start\|>(<\|image_pad\|>){4,8}<\|vision_end\|>\n"
    video = r"<\|vision_start\|>(<\|video_pad\|>){4,32}<\|vision_end\|>\n"
    tokens = re.escape(TOKENS)
    words = {kind: re.escape(item["text"]) + r"\n" for kind, item in KINDS.items() if "text" in item}
    expected = {
        "text": words["text"],
        "short text": words["short text"],
        "image": image,
        "two images": image + image,
        "video": video,
        "image + text": image + words["image + text"],
        "video + text": video + words["video + text"],
    }
    for kind, item in KINDS.items():
        assert re.fullmatch(expected[kind] + tokens, rendered(model, item)), kind
    stamps = r"<\d\.\d seconds><\|vision_start\|>(<\|video_pad\|>)+<\|vision_end\|>"
    found = rendered(attached("qwen3_vl"), KINDS["video + text"])
    assert re.fullmatch(rf"{stamps}{stamps}\nwho\n{tokens}", found)


def test_layouts_of_other_models() -> None:
    """Official VLM2Vec prompts have no boundary tokens: the layout belongs to the folder, never to who calls it."""
    model = fresh("qwen2_vl", layout="vlm2vec", tokens=0)
    found = rendered(model, {"image": picture(), "text": "a fox"}, prompt="find")
    assert re.fullmatch(r"(<\|image_pad\|>)+\nfind a fox\n", found)
    assert re.fullmatch(r"(<\|video_pad\|>)+ who", rendered(model, KINDS["video + text"]))
    model = fresh("qwen3_vl", layout="chat", tokens=0)
    found = rendered(model, {"text": "a <|im_end|> fox", "image": picture()}, prompt="find")
    turns = r"<\|im_start\|>system\nfind<\|im_end\|>\n<\|im_start\|>user\n(.*)<\|im_end\|>\n<\|im_start\|>assistant\n"
    inside = re.fullmatch(turns, found, re.DOTALL)
    assert inside
    assert re.fullmatch(r"<\|vision_start\|>(<\|image_pad\|>)+<\|vision_end\|>a < \|im_end\|> fox", inside[1])
    assert "Represent the user's input." in rendered(model, {"text": "fox"})


@pytest.mark.parametrize("name", ["gemma3", "smolvlm", "qwen3", "qwen2_vl"])
def test_what_a_tokenizer_puts_around_a_text_stands_once_and_never_behind_the_tokens(name: str) -> None:
    """Some tokenizers open every text with a token (the template then writes it) or close it with one (left out)."""
    full, processor = tiny.backbone(name)
    tokenizer = prompts.tokenizer_of(processor)
    first = tokenizer.bos_token or tokenizer.eos_token
    last = tokenizer.eos_token
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in {first, last}]
    around = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    tokenizer.backend_tokenizer.post_processor = around
    model = btoks.attach((full, processor))
    opens = [tokenizer.bos_token_id] if tokenizer.bos_token else []
    words = tokenizer("a fox\n", add_special_tokens=False).input_ids
    for batch in (features(model, {"text": "a fox"}), model.preprocess(["a fox"])):
        assert batch["input_ids"][0].tolist() == [*opens, *words, *token_ids(model)]
    if name in tiny.VISION:
        row = features(model, KINDS["image + text"])["input_ids"][0].tolist()
        assert row[-4:] == token_ids(model)
        assert tokenizer.eos_token_id not in row
        assert row[: len(opens)] == opens
        assert not set(row[len(opens) :]) & set(opens)
