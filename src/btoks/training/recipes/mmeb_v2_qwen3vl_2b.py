"""The larger recipe: Qwen3-VL-2B, weights by size, λ for all 5,000 steps."""

from __future__ import annotations

from btoks.training.recipe import Lora, Recipe
from btoks.training.recipes.mmeb_v2_qwen2vl_2b import AREA, mixture

_WEIGHTS = {
    "ImageNet_1K": 3.0,
    "N24News": 2.0,
    "HatefulMemes": 1.0,
    "VOC2007": 1.0,
    "SUN397": 1.0,
    "OK-VQA": 1.0,
    "A-OKVQA": 1.0,
    "DocVQA": 2.0,
    "InfographicsVQA": 1.0,
    "ChartQA": 1.0,
    "Visual7W": 2.0,
    "VisDial": 3.0,
    "CIRR": 1.0,
    "VisualNews_t2i": 3.0,
    "VisualNews_i2t": 3.0,
    "MSCOCO_t2i": 3.0,
    "MSCOCO_i2t": 3.0,
    "NIGHTS": 1.0,
    "WebQA": 1.0,
    "MSCOCO": 3.0,
    "colpali_train_set": 16.0,
    "visrag-indomain": 17.0,
    "video_caption_300k": 10.0,
    "video_caption_300k-video": 10.0,
    "video_qa_240k": 10.0,
}


def recipe() -> Recipe:
    """5,000 steps of 1,024 on 8 devices."""
    return Recipe(
        "mmeb_v2_qwen3vl_2b",
        model="Qwen/Qwen3-VL-2B-Instruct",
        sets=mixture(384 * AREA, _WEIGHTS),
        lora=Lora(),
        checkpointing=True,
    )
