"""The published base recipe: Qwen2-VL-2B on the VLM2Vec-V2 mixture, λ for the first 2,000 of 5,000 steps."""

from __future__ import annotations

from btoks.training.data import Set
from btoks.training.hub import ColPali, LlavaHound, Mmeb, VisRag
from btoks.training.recipe import Lora, Recipe

AREA = 28 * 28
# name, weight, first rows, side
_PICTURES = (
    ("ImageNet_1K", 1.0, 100_000, "positive"),
    ("N24News", 1.0, 50_000, "positive"),
    ("HatefulMemes", 0.5, 10_000, "positive"),
    ("VOC2007", 0.5, 10_000, "positive"),
    ("SUN397", 0.5, 20_000, "positive"),
    ("OK-VQA", 0.5, 10_000, "positive"),
    ("A-OKVQA", 0.5, 20_000, "positive"),
    ("DocVQA", 1.0, 40_000, "positive"),
    ("InfographicsVQA", 0.5, 25_000, "positive"),
    ("ChartQA", 0.5, 28_000, "positive"),
    ("Visual7W", 1.0, 70_000, "positive"),
    ("VisDial", 1.0, 130_000, "query"),
    ("CIRR", 0.5, 30_000, "none"),
    ("VisualNews_t2i", 1.0, 100_000, "query"),
    ("VisualNews_i2t", 1.0, 100_000, "positive"),
    ("MSCOCO_t2i", 1.0, 100_000, "query"),
    ("MSCOCO_i2t", 1.0, 120_000, "positive"),
    ("NIGHTS", 0.5, 20_000, "none"),
    ("WebQA", 0.5, 20_000, "both"),
    ("MSCOCO", 1.0, 100_000, "query"),
)
_VIDEO = "Find a video that contains the following visual content:"
_WATCH = "Understand the content of the provided video:"
_ANSWER = "Answer a question based on the content of a video."


def mixture(frame_area: int, weights: dict[str, float] | None = None) -> tuple[Set, ...]:
    """The 25 data sets; `weights` by name replace the published ones, `frame_area` is the largest frame in pixels."""
    pictures = tuple(
        Set(name, Mmeb(name, rows), weight=weight, side=side, pixels=1280 * AREA)
        for name, weight, rows, side in _PICTURES
    )
    films = (
        Set("video_caption_300k", LlavaHound("caption"), 5.0, "positive", pixels=frame_area),
        Set("video_caption_300k-video", LlavaHound("video"), 5.0, "query", _VIDEO, _WATCH, pixels=frame_area),
        Set("video_qa_240k", LlavaHound("qa"), 5.0, "positive", _ANSWER, pixels=frame_area),
    )
    pages = (
        Set("colpali_train_set", ColPali(), 10.0, "positive", pixels=1280 * AREA),
        Set("visrag-indomain", VisRag(), 12.0, "query", pixels=1280 * AREA),
    )
    sets = (*pictures, *pages, *films)
    if weights is None:
        return sets
    return tuple(Set(**{**vars(each), "weight": weights[each.name]}) for each in sets)


def recipe() -> Recipe:
    """5,000 steps of 1,024 on 8 devices."""
    return Recipe(
        "mmeb_v2_qwen2vl_2b",
        model="Qwen/Qwen2-VL-2B-Instruct",
        sets=mixture(768 * AREA),
        weight_steps=2000,
        lora=Lora(),
        checkpointing=True,
    )
