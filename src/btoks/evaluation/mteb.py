"""To mteb and from it: a btoks model that mteb runs on texts, pictures and videos, and our tasks as its own.

    import mteb
    mteb.evaluate(mteb_model(model), mteb.get_tasks(["NFCorpus"]))
    mteb.evaluate(mteb_model(model), as_mteb(task))

Needs the extra `mteb`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.bottleneck import record
from btoks.encode import encode_stream
from btoks.errors import BtoksError
from btoks.evaluation.fingerprint import model_key
from btoks.evaluation.layouts import Side, layout_of, prompted
from btoks.evaluation.task import Entry, Task, check
from btoks.similarity import similarity

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BtoksError("mteb", f"it cannot be imported ({error})", "pip install 'btoks[mteb]'") from error


_Retrieval: Any = _module("mteb.abstasks").AbsTaskRetrieval
_Base: Any = _module("mteb.models.abs_encoder").AbsEncoder
_KINDS = ("text", "image", "video")
_METRICS = {
    "hit": "hit_rate",
    "ndcg_linear": "ndcg",
    "recall": "recall",
    "precision": "precision",
    "map": "map",
    "mrr": "mrr",
}


class _Encoder(_Base):  # type: ignore[misc]
    """A model as mteb calls it."""

    def __init__(self, model: SentenceTransformer, frames: int, max_batch_tokens: int) -> None:
        self.model, self.frames, self.max_batch_tokens = model, frames, max_batch_tokens
        notes = record(model)
        backbone = str(notes["backbone"]).rstrip("/").rpartition("/")[2]
        facts = {
            "name": f"btoks/{backbone}-{notes['tokens']}",
            # mteb keeps results by name and revision: weights that differ must never share one.
            "revision": model_key(model),
            "modalities": [kind for kind in _KINDS if kind in model.modalities],
            "max_tokens": notes["max_tokens"],
            "embed_dim": model.truncate_dim or model.get_embedding_dimension(),
            "similarity_fn_name": _module("mteb.models.model_meta").ScoringFunction.COSINE,
            "use_instructions": True,
            "framework": ["Sentence Transformers", "PyTorch"],
        }
        self.mteb_model_meta = _module("mteb.models").ModelMeta.create_empty(overwrites=facts)

    def encode(self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **_: Any) -> np.ndarray[Any, Any]:
        """The embeddings of a data loader's rows."""
        if "video" in inputs.dataset.features:
            collator = _module("mteb.models.modality_collators").VideoCollator
            inputs.collate_fn = collator(target_sampling_rate=16_000, num_frames=self.frames)
        side: Side = "document" if prompt_type is not None and prompt_type.value == "document" else "query"
        instruction = _instruction(task_metadata.prompt, side)
        layout = layout_of(self.model)
        prompt = prompted(Entry("", instruction=instruction), layout, side)[0]
        items = (prompted(entry, layout, side)[1] for batch in inputs for entry in _entries(batch))
        found = encode_stream(self.model, items, prompt=prompt, max_batch_tokens=self.max_batch_tokens)
        return np.stack([out.embedding for out in found if out.embedding is not None])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The model's own way of comparing its embeddings, all with all."""
        import torch

        return similarity(self.model, torch.as_tensor(embeddings1), torch.as_tensor(embeddings2))


def mteb_model(model: SentenceTransformer, *, frames: int = 8, max_batch_tokens: int = 16_384) -> Any:
    """The model as mteb runs it, with every modality it takes; videos are shown in `frames` frames.

    >>> mteb.evaluate(mteb_model(model), mteb.get_tasks(["NFCorpus"]))  # doctest: +SKIP
    """
    return _Encoder(model, frames, max_batch_tokens)


def as_mteb(task: Task) -> Any:
    """A task of texts and pictures as mteb's own; its main score is the task's metric.

    >>> mteb.evaluate(model, as_mteb(task))  # doctest: +SKIP
    """
    queries, corpus = check(task)
    family, _, at = task.metric.partition("@")
    if family not in _METRICS:
        raise BtoksError(task.name, f"mteb has no {task.metric}", f"choose one of {', '.join(_METRICS)}")
    sides = {"query": _columns(task.name, task.queries), "document": _columns(task.name, task.corpus)}
    kinds = {side: [kind for kind in ("image", "text") if kind in columns] for side, columns in sides.items()}
    spelled = {side: "".join(kind[0] for kind in found) for side, found in kinds.items()}
    pictures = any("image" in found for found in kinds.values())
    prompt = {"query": _one_instruction(task.name, task.queries), "document": _one_instruction(task.name, task.corpus)}
    metadata = _module("mteb.abstasks.task_metadata").TaskMetadata(
        name=task.name,
        description=f"The task {task.name}.",
        reference=None,
        dataset={"path": "local", "revision": "local"},
        type="Any2AnyRetrieval" if pictures else "Retrieval",
        category=f"{spelled['query']}2{spelled['document']}",
        modalities=sorted({kind for found in kinds.values() for kind in found}),
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=f"{_METRICS[family]}_at_{at}",
        prompt={side: text for side, text in prompt.items() if text} or None,
    )
    split = {
        "queries": _dataset(queries, sides["query"]),
        "corpus": _dataset(corpus, sides["document"]),
        "relevant_docs": {q: {d: int(gain) for d, gain in task.relevant[q].items()} for q in queries},
        "top_ranked": None
        if task.candidates is None
        else {q: list(dict.fromkeys(task.candidates[q])) for q in queries},
    }
    ks = sorted({*_Retrieval.k_values, int(at)})
    return type("Local", (_Local,), {"metadata": metadata, "split": split, "k_values": ks})()


class _Local(_Retrieval):  # type: ignore[misc]
    """A task whose data are at hand."""

    split: dict[str, Any]

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        """Hand over the data."""
        del num_proc
        self.dataset = {"default": {"test": dict(self.split)}}
        self.data_loaded = True


def _instruction(prompt: Any, side: Side) -> str:
    """A task's own instruction; one that is not said to be for candidates is for queries."""
    if isinstance(prompt, dict):
        return str(prompt.get(side) or "")
    return str(prompt or "") if side == "query" else ""


def _entries(batch: dict[str, Any]) -> Iterator[Entry]:
    kinds = [kind for kind in _KINDS if kind in batch]
    for values in zip(*(batch[kind] for kind in kinds), strict=True):
        row = dict(zip(kinds, values, strict=True))
        yield Entry("", text=row.get("text") or "", image=row.get("image"), video=_clip(row.get("video")))


def _clip(frames: Any) -> Any:
    """Frames (T, C, H, W) as arrays (T, H, W, C)."""
    return None if frames is None else np.ascontiguousarray(np.asarray(frames).transpose(0, 2, 3, 1))


def _columns(name: str, entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """Texts and pictures of a side; mteb wants the same of every row."""
    columns: dict[str, list[Any]] = {
        "text": [entry.text for entry in entries],
        "image": [entry.image for entry in entries],
    }
    if any(entry.video is not None or entry.broken for entry in entries):
        raise BtoksError(name, "mteb's tasks are made of texts and pictures here", "evaluate it with btoks")
    found = {kind: values for kind, values in columns.items() if any(value not in (None, "") for value in values)}
    if not found or ("image" in found and None in found["image"]):
        raise BtoksError(name, "mteb wants the same kinds of every row", "evaluate it with btoks")
    return found


def _one_instruction(name: str, entries: Sequence[Entry]) -> str:
    found = {entry.instruction for entry in entries}
    if len(found) > 1:
        raise BtoksError(name, f"it has {len(found)} instructions, mteb takes one a side", "evaluate it with btoks")
    return found.pop()


def _dataset(ids: Sequence[str], columns: dict[str, list[Any]]) -> Any:
    made = _module("datasets")
    text, picture = made.Value("string"), made.Image()
    features = made.Features({"id": text} | {kind: picture if kind == "image" else text for kind in columns})
    values = {kind: [_stored(each) for each in column] for kind, column in columns.items()}
    return made.Dataset.from_dict({"id": list(ids), **values}, features=features)


def _stored(value: Any) -> Any:
    return (
        {"bytes": value, "path": None}
        if isinstance(value, bytes)
        else str(value)
        if hasattr(value, "__fspath__")
        else value
    )
