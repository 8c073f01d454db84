"""The small model that comes along: joint training on local records of pictures, clips, pages and texts."""

from __future__ import annotations

import dataclasses
from typing import Any

from btoks.training.data import Set
from btoks.training.readers import Records
from btoks.training.recipe import Recipe

_PIXELS, _FRAMES = 128 * 128, 4
# folder, meta-task, pool or None, side, weight
_RECORDS = (
    ("aquarium", "image_cls", None, "positive", 1.0),
    ("aquarium", "image_qa", None, "positive", 1.0),
    ("aquarium", "image_vg", None, "query", 2.0),
    ("cards", "image_cls", None, "positive", 1.0),
    ("cards", "image_qa", None, "positive", 1.0),
    ("cards", "image_vg", None, "query", 1.0),
    ("cranfield", "visdoc", None, "query", 1.0),
    ("emoji", "image_cls", None, "positive", 1.0),
    ("emoji", "image_ret", "image_ret/img2name", "positive", 2.0),
    ("emoji", "image_ret", "image_ret/name2img", "query", 2.0),
    ("flags", "image_cls", None, "positive", 1.0),
    ("flags", "image_ret", "image_ret/name2img", "query", 1.0),
    ("flags", "image_ret", "image_ret/desc2img", "query", 1.0),
    ("flags", "image_ret", "image_ret/img2desc", "positive", 1.0),
    ("grocery", "image_cls", None, "positive", 2.0),
    ("grocery", "image_ret", "image_ret/t2i", "query", 1.0),
    ("grocery", "image_ret", "image_ret/i2t", "positive", 1.0),
    ("kanji", "video_cls", None, "positive", 1.0),
    ("kanji", "video_qa", None, "positive", 1.0),
    ("kanji", "video_mret", None, "query", 1.0),
    ("larc", "image_ret", None, "none", 1.0),
    ("larc", "video_qa", None, "positive", 1.0),
    ("larc", "video_ret", "video_ret/t2v", "query", 1.0),
    ("larc", "video_ret", "video_ret/v2t", "positive", 1.0),
    ("larc", "video_mret", None, "query", 1.0),
    ("motion", "video_cls", None, "positive", 1.0),
    ("motion", "video_mret", None, "query", 1.0),
    ("nlvr", "image_qa", None, "positive", 2.0),
    ("nlvr", "image_ret", None, "query", 2.0),
    ("recipes", "image_ret", "image_ret/2title", "positive", 1.0),
    ("recipes", "image_ret", "image_ret/title2img", "query", 1.0),
    ("terminal", "video_ret", "video_ret/t2v", "query", 1.0),
    ("terminal", "video_ret", "video_ret/v2t", "positive", 1.0),
    ("weather", "video_cls", None, "positive", 1.0),
    ("weather", "video_ret", "video_ret/t2v", "query", 1.0),
    ("weather", "video_ret", "video_ret/v2t", "positive", 1.0),
    ("wikitables", "image_qa", None, "positive", 2.0),
    ("wikitables", "visdoc", None, "query", 2.0),
    ("xquad", "visdoc", None, "query", 2.0),
)
_DEV = ("grocery-image_cls", "emoji-img2name", "nlvr-image_ret", "kanji-video_cls", "wikitables-visdoc")


def _set(folder: str, meta_task: str, pool: str | None, side: str, weight: float) -> Set:
    media: dict[str, Any] = {"frames": _FRAMES, "pixels": _PIXELS, "shuffle": True}
    name = f"{folder}-{pool.partition('/')[2] if pool else meta_task}"
    return Set(name, Records(folder, meta_task=meta_task, pool=pool), weight, side, **media)


SETS = tuple(_set(*each) for each in _RECORDS)


def recipe() -> Recipe:
    """The joint objective, after the captioning stage."""
    dev = (each for each in SETS if each.name in _DEV)
    return Recipe(
        "mini",
        start="mini_captions",
        sets=SETS,
        steps=6000,
        batch=64,
        chunk=64,
        block=64,
        lr=6e-4,
        schedule="cosine",
        weight=1.0,
        temperature=0.05,
        longest_target=64,
        dev=tuple(dataclasses.replace(each, read=_dev_of(each)) for each in dev),
        dev_every=500,
    )


def _dev_of(each: Set) -> Records:
    assert isinstance(each.read, Records)  # noqa: S101  (for mypy)
    return dataclasses.replace(each.read, split="dev")
