"""Items before they meet the model: one function cuts texts to the budget, one estimates what an item costs.

An item is a sentence-transformers input: a mapping with any of `text`, `image`, `video`. A text may have a `context`,
what stands around it; models that read none leave it out. What holds here holds for training and inference alike,
since both pass their items through `fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from btoks.bottleneck import record, transformer
from btoks.errors import BtoksError, did_you_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_KEYS = ("text", "image", "video")
_TEMPLATE = 32  # tokens the layout itself may take: boundaries, newlines, turns


def fit(model: SentenceTransformer, item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as the model takes it: no empty fields, no more text than the budget, frames as pictures if need be.

    >>> fit(model, {"text": "a red fox", "image": None})  # doctest: +SKIP
    {'text': 'a red fox'}
    """
    given = {key: value for key, value in item.items() if value is not None}
    context = given.pop("context", None)
    for key in given:
        if key not in _KEYS:
            raise BtoksError(f"item field {key!r}", "there is none", did_you_mean(key, _KEYS))
    if not given:
        raise BtoksError("item", "it has no text, image or video", "give at least one")
    takes = model.modalities
    if "video" in given and "video" not in takes and "image" in takes:
        given["image"] = [*_several(given.get("image")), *frames(given.pop("video"))]
    elif isinstance(given.get("video"), Mapping):
        given["video"] = _long_enough(given["video"], _least_frames(model))
    for key in given:
        if key not in takes:
            raise BtoksError(
                f"item with {key}", f"this model takes {', '.join(_taken(takes))}", "use a model that takes it"
            )
    if context and set(given) == {"text"} and record(model)["pooling"]["name"] == "sitemb":
        from btoks.methods.pooling.sitemb import situated

        given["text"] = situated(str(given["text"]), str(context))
    if "text" in given:
        given["text"] = _cut(model, str(given["text"]), _budget(model, given))
    return given


def cost(model: SentenceTransformer, item: Mapping[str, Any]) -> int:
    """About how many tokens the item will take: exact for its text, by the processor's own rule for its pictures."""
    text = item.get("text")
    count = len(_tokenized(model, text)) if text else 0
    return count + _visual(model, item) + int(record(model)["tokens"])


def nbytes(item: Mapping[str, Any]) -> int:
    """About how much memory a decoded item holds."""
    total = len(item.get("text") or "")
    images = item.get("image")
    for image in images if isinstance(images, list) else [images] if images is not None else []:
        total += 3 * image.size[0] * image.size[1] if isinstance(image.size, tuple) else image.nbytes
    clip = item.get("video")
    array = clip["array"] if isinstance(clip, Mapping) else clip
    return total + (getattr(array, "nbytes", 0) if array is not None else 0)


def frames(video: Any) -> list[Any]:
    """The frames of a video item as pictures."""
    from PIL import Image

    array = video["array"] if isinstance(video, Mapping) else video
    return [frame if isinstance(frame, Image.Image) else Image.fromarray(frame) for frame in array]


def _least_frames(model: SentenceTransformer) -> int:
    """The frames a clip must have: some processors merge neighbours in time and refuse fewer."""
    return int(
        getattr(getattr(transformer(model).processor, "video_processor", None), "temporal_patch_size", None) or 1
    )


def _long_enough(video: Mapping[str, Any], least: int) -> dict[str, Any]:
    """The clip, its last frame repeated if it is too short for the processor."""
    import numpy as np

    array, metadata = video["array"], video.get("video_metadata")
    lacks = least - len(array)
    if lacks <= 0:
        return dict(video)
    longer = np.concatenate([np.asarray(array), np.repeat(np.asarray(array)[-1:], lacks, axis=0)])
    if metadata and metadata.get("frames_indices") is not None:
        indices = list(metadata["frames_indices"])
        metadata = {**metadata, "frames_indices": indices + indices[-1:] * lacks}
    return {**video, "array": longer, "video_metadata": metadata}


def _budget(model: SentenceTransformer, item: Mapping[str, Any]) -> int:
    notes = record(model)
    return max(int(notes["max_tokens"]) - int(notes["tokens"]) - _TEMPLATE - _visual(model, item), 0)


def _cut(model: SentenceTransformer, text: str, budget: int) -> str:
    """The longest beginning of the text that is surely within the budget; a text within it stays as it is."""
    if len(text.encode()) <= budget:  # a token is at least a byte
        return text
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(encoded.input_ids) <= budget:
        return text
    return text[: encoded.offset_mapping[budget][0]]


def _tokenized(model: SentenceTransformer, text: str) -> list[int]:
    ids: list[int] = model.tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _taken(takes: list[Any]) -> list[str]:
    return [each for each in takes if isinstance(each, str) and each != "message"]


def _visual(model: SentenceTransformer, item: Mapping[str, Any]) -> int:
    """Visual tokens of an item by the processor's own count, which needs sizes and opens no picture."""
    count = getattr(transformer(model).processor, "_get_num_multimodal_tokens", None)
    sizes = [_size(image) for image in _several(item.get("image"))]
    clip = item.get("video")
    shape = None if clip is None else _clip_size(clip)
    if count is None or not (sizes or shape):
        return 0
    total = sum(count(image_sizes=[size])["num_image_tokens"][0] for size in sizes)
    if shape:
        per_frame = count(image_sizes=[shape[1:]])["num_image_tokens"][0]
        total += shape[0] * per_frame
    return int(total)


def _size(image: Any) -> tuple[int, int]:
    if hasattr(image, "size") and isinstance(image.size, tuple):
        return image.size[1], image.size[0]
    return tuple(image.shape[:2])


def _clip_size(video: Any) -> tuple[int, int, int]:
    array = video["array"] if isinstance(video, Mapping) else video
    return (len(array), *_size(array[0]))
