"""Inputs and models that many tests share: small pictures and clips, attached tiny backbones, ways to embed."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import btoks
import tiny
from btoks import bottleneck

if TYPE_CHECKING:
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

Item = dict[str, Any]


def picture(seed: int = 0, height: int = 60, width: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def clip(seed: int = 0, frames: int = 4) -> Item:
    array = np.random.default_rng(seed).integers(0, 256, (frames, 60, 90, 3), dtype=np.uint8)
    metadata = {
        "fps": 1.0,
        "total_num_frames": frames,
        "duration": float(frames),
        "frames_indices": list(range(frames)),
    }
    return {"array": array, "video_metadata": metadata}


WORDS = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "two",
    "people",
    "read",
    "a",
    "book",
)
KINDS: dict[str, Item] = {
    "text": {"text": "the quick brown fox jumps over the lazy dog, and then it sleeps"},
    "short text": {"text": "fox"},
    "image": {"image": picture(1)},
    "two images": {"image": [picture(2), picture(3, 120, 50)]},
    "video": {"video": clip(4)},
    "image + text": {"text": "what is in the garden?", "image": picture(5, 50, 130)},
    "video + text": {"text": "who", "video": clip(6)},
}


def kinds(name: str) -> dict[str, Item]:
    """The inputs of every kind that a family can embed."""
    sees = name in tiny.VISION
    return {kind: item for kind, item in KINDS.items() if sees or set(item) == {"text"}}


def fresh(name: str, *, table: int | None = None, tie: bool = False, **options: Any) -> SentenceTransformer:
    """A tiny model of a family with bottleneck tokens, to change at will."""
    return btoks.attach(tiny.backbone(name, table=table, tie=tie), **options)


@functools.cache
def attached(name: str, tokens: int = 4, pooling: str = "mean") -> SentenceTransformer:
    """A tiny model of a family with bottleneck tokens, shared: leave it as it is."""
    return fresh(name, tokens=tokens, pooling=pooling)


@contextmanager
def padded(model: SentenceTransformer, side: str) -> Iterator[None]:
    """Pad on one side for a while."""
    settings = model[0].processing_kwargs["text"]
    before = settings["padding_side"]
    settings["padding_side"] = side
    try:
        yield
    finally:
        settings["padding_side"] = before


def streamed(model: SentenceTransformer, items: Sequence[Any], **options: Any) -> np.ndarray:
    """The embeddings that `encode_stream` gives."""
    return np.stack([out.embedding for out in btoks.encode_stream(model, items, **options)])


def vectors(model: SentenceTransformer, name: str = "qwen2_vl") -> np.ndarray:
    """The embeddings of an input of several kinds, to tell models apart."""
    viewed = ("text", "image", "image + text", "video + text")
    return streamed(model, [item for kind, item in kinds(name).items() if kind in viewed])


def near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the rounding of another order of sums."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """A copy of all weights, the head's too."""
    return {key: value.clone() for key, value in bottleneck.generator(model).state_dict().items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def threads() -> list[str]:
    """The threads of ours that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("btoks")]


def features(model: SentenceTransformer, *items: Item, **options: Any) -> Item:
    """A preprocessed batch."""
    return model.preprocess([btoks.fit(model, item) for item in items], **options)


def rendered(model: SentenceTransformer, item: Item, **options: Any) -> str:
    """What the model is given for an item, special tokens included."""
    return model.tokenizer.decode(features(model, item, **options)["input_ids"][0])


def token_ids(model: SentenceTransformer) -> list[int]:
    """The ids of the bottleneck tokens."""
    names = [f"<|btok_{place}|>" for place in range(bottleneck.record(model)["tokens"])]
    return model.tokenizer.convert_tokens_to_ids(names)


def last_states(model: SentenceTransformer, item: Item) -> torch.Tensor:
    """The last-layer states of one item (T, D), by the generative model's own body."""
    body = bottleneck.generator(model).base_model
    takes = inspect.signature(body.forward).parameters
    with torch.no_grad():
        return body(**{key: value for key, value in features(model, item).items() if key in takes}).last_hidden_state[0]


def token_states(model: SentenceTransformer, item: Item) -> torch.Tensor:
    """Those of its bottleneck tokens (K, D), found by their ids."""
    ids_T = features(model, item)["input_ids"][0]
    return last_states(model, item)[torch.isin(ids_T, torch.tensor(token_ids(model)))]


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(each.name for each in folder.iterdir())


def python(code: str, *arguments: object, timeout: float = 100, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds the same modules."""
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
