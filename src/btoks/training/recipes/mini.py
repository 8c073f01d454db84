"""The small model that comes along: joint training on local records of pictures, clips, pages and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from btoks.training.data import Set
from btoks.training.readers import Records
from btoks.training.recipe import Recipe
from btoks.training.shapes import Shapes
from btoks.training.variety import Halves, Sentences, Varied

if TYPE_CHECKING:
    from collections.abc import Iterator

PIXELS, FRAMES = 96 * 96, 4
# folder, meta-task, pool or None, side, weight
_RECORDS = (
    ("aquarium", "image_cls", None, "positive", 1.0),
    ("aquarium", "image_qa", None, "positive", 1.0),
    ("aquarium", "image_vg", None, "query", 2.0),
    ("cards", "image_cls", None, "positive", 1.0),
    ("cards", "image_qa", None, "positive", 1.0),
    ("cards", "image_vg", None, "query", 1.0),
    ("cranfield", "visdoc", None, "query", 0.3),
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
    ("terminal", "video_ret", "video_ret/t2v", "query", 0.3),
    ("terminal", "video_ret", "video_ret/v2t", "positive", 0.3),
    ("weather", "video_cls", None, "positive", 1.0),
    ("weather", "video_ret", "video_ret/t2v", "query", 1.0),
    ("weather", "video_ret", "video_ret/v2t", "positive", 1.0),
    ("wikitables", "image_qa", None, "positive", 1.0),
    ("wikitables", "visdoc", None, "query", 1.0),
    ("xquad", "visdoc", None, "query", 1.0),
)
_DEV = (
    ("grocery", "image_cls", None),
    ("emoji", "image_ret", "image_ret/img2name"),
    ("nlvr", "image_ret", None),
    ("kanji", "video_cls", None),
    ("larc", "video_ret", "video_ret/t2v"),
    ("wikitables", "visdoc", None),
    ("xquad", "visdoc", None),
)
# Photographs may be cropped and tinted; where colours or places are what is asked for they stay as they are.
_VARIED = {
    "aquarium": (0.7, 0.25),
    "grocery": (0.6, 0.25),
    "cards": (0.8, 0.25),
    "recipes": (0.6, 0.25),
    "emoji": (0.9, 0.1),
}
_MEDIA: dict[str, Any] = {"frames": FRAMES, "pixels": PIXELS, "shuffle": True}


def _records(folder: str, meta_task: str, pool: str | None, split: str = "train") -> tuple[str, Records]:
    """A data set's name and reader."""
    name = f"{folder}-{pool.partition('/')[2] if pool else meta_task}"
    return name, Records(folder, split, meta_task=meta_task, pool=pool, layers=meta_task == "visdoc")


def _set(folder: str, meta_task: str, pool: str | None, side: str, weight: float) -> Set:
    name, read = _records(folder, meta_task, pool)
    crop, tint = _VARIED.get(folder, (1.0, 0.0))
    return Set(name, Varied(read, crop, tint), weight, side, **_MEDIA)


def _made() -> Iterator[Set]:
    """What is made without end: shapes, sentences of pages, texts with words left out."""
    for task, side in (("find", "query"), ("tell", "positive"), ("count", "positive"), ("colour", "positive")):
        yield Set(f"shapes-{task}", Shapes(task), 1.5, side, **_MEDIA)
    for folder in ("cranfield", "wikitables", "xquad"):
        yield Set(f"{folder}-sentences", Sentences(folder), 0.7, "query", **_MEDIA)
    told = tuple(Records(folder) for folder in ("recipes", "flags", "larc", "nlvr", "grocery"))
    yield Set("halves", Halves(told), 1.5, "positive", **_MEDIA)


SETS = (*(_set(*each) for each in _RECORDS), *_made())


def recipe() -> Recipe:
    """The joint objective, after the captioning stage."""
    return Recipe(
        "mini",
        start="mini_captions",
        sets=SETS,
        steps=1800,
        batch=32,
        chunk=32,
        block=32,
        lr=1.5e-4,
        schedule="cosine",
        weight=0.3,
        temperature=0.05,
        longest_target=32,
        dev=tuple(Set(*_records(folder, meta_task, pool, "dev"), **_MEDIA) for folder, meta_task, pool in _DEV),
        dev_every=600,
        dev_rows=100,
        max_tokens=128,
        workers=1,
    )
