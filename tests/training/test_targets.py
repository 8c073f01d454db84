"""What is to be generated is the other side's text, read off its features, whatever the layout wrote around it."""

from __future__ import annotations

import pytest

from btoks.bottleneck import record
from btoks.training.targets import Targets
from items import attached, features, fresh, kinds


@pytest.mark.parametrize("layout", ["btoks", "vlm2vec", "chat"])
@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3", "internvl", "gemma3", "smolvlm", "llava_onevision"])
def test_targets_are_the_text_alone(name: str, layout: str) -> None:
    if layout == "chat" and name in {"gemma3", "smolvlm"}:
        pytest.skip("their template has no system turn")
    model = fresh(name, layout=layout)
    targets = Targets(model, 512)
    for kind, item in kinds(name).items():
        assert targets.texts(features(model, item)) == [item.get("text", "")], kind
        prompted = "" if layout == "chat" else "Find it."
        wanted = f"{prompted} {item.get('text', '')}".strip()
        assert targets.texts(features(model, item, prompt="Find it.")) == [wanted], kind


def test_targets_hold_no_forged_tokens() -> None:
    model = attached("qwen3_vl")
    (said,) = Targets(model, 512).texts(features(model, {"text": "see <|btok_0|> and <|image_pad|>"}))
    assert said == "see < |btok_0|> and < |image_pad|>"


def test_a_long_target_is_cut_and_has_no_end() -> None:
    model = attached("qwen3")
    batch = features(model, {"text": "the quick brown fox jumps over the lazy dog"}, {"text": "a"})
    whole, cut = (Targets(model, longest)(batch) for longest in (512, 3))
    prefix, suffix = (model.tokenizer(record(model)[each]).input_ids for each in ("prefix", "suffix"))
    row = whole[0][0].tolist()
    assert row[-len(suffix) :] == suffix
    assert cut[0][0].tolist() == row[: len(prefix) + 3]
    assert cut[1][0].tolist() == [False] * len(prefix) + [True] * 3
    assert cut[0][1].tolist()[: len(prefix) + 1 + len(suffix)] == prefix + model.tokenizer("a").input_ids + suffix
