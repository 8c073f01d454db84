"""The one way from items to embeddings: streamed in and out, batched by tokens, preprocessed beside the model.

Items are read into a window, sorted by length, cut into batches of at most `max_batch_tokens` padded tokens, and come
out in the order they went in. One thread decodes and preprocesses while the model runs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from sentence_transformers.util import batch_to_device

from btoks.bottleneck import record, transformer
from btoks.condensation import Memory, memory
from btoks.errors import BtoksError, did_you_mean
from btoks.inputs import cost, fit, nbytes
from btoks.media import Decoder, Limits, Source
from btoks.media import load as load_media

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

_WINDOW_ITEMS = 512
_WINDOW_BYTES = 256 << 20
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}  # as encode_query, encode_document
_AHEAD = 2  # preprocessed batches that may wait for the model


@dataclass(frozen=True)
class Encoded:
    """One item's outcome, in the order of the items: an embedding, or the error that took its place."""

    index: int
    embedding: NDArray[np.float32] | None = None
    error: BtoksError | None = None
    memory: Memory | None = None


@dataclass
class _Window:
    """Items that are sorted together, and what became of them."""

    items: list[tuple[int, dict[str, Any], int]] = field(default_factory=list)
    done: dict[int, Encoded] = field(default_factory=dict)
    nbytes: int = 0

    def full(self) -> bool:
        return len(self.items) + len(self.done) >= _WINDOW_ITEMS or self.nbytes >= _WINDOW_BYTES


@dataclass(frozen=True)
class _Batch:
    """A preprocessed batch; an empty one ends its window."""

    window: _Window
    indices: list[int] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)


def encode_stream(
    model: SentenceTransformer,
    items: Iterable[Mapping[str, Any] | Source | str],
    *,
    task: Literal["query", "document"] | None = None,
    max_batch_tokens: int = 16_384,
    on_error: Literal["raise", "skip"] = "raise",
    prompt: str | None = None,
    limits: Limits | None = None,
    memories: bool = False,
) -> Iterator[Encoded]:
    """Embed items of any kind, as many as there are, in their order.

    An item is a mapping with any of `text`, `image`, `video` (values decoded, or paths, URLs, bytes), a `Source`, or a
    string, which is always text. With `on_error="skip"` media are decoded in a worker process and a bad item yields an
    `Encoded` with its error instead of ending the run. With `memories` each brings its memory, from the same pass.

    >>> for out in encode_stream(model, [{"text": "a red fox"}, Source("fox.jpg")]):  # doctest: +SKIP
    ...     print(out.index, out.embedding.shape)
    """
    _check(max_batch_tokens, on_error, task)
    record(model)
    prompt = prompt if prompt is not None else _prompt(model, task)
    options = {"prompt": prompt} | ({"task": task} if task else {})
    ready: queue.Queue[_Batch | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()
    reader = _Reader(model, on_error, limits or Limits(), max_batch_tokens, options)
    thread = threading.Thread(target=_produce, args=(reader, items, ready, stop), name="btoks-reader", daemon=True)
    thread.start()
    try:
        yield from _consume(model, ready, memories)
    finally:
        stop.set()
        while thread.is_alive():
            _drain(ready)
            thread.join(0.05)


def _check(max_batch_tokens: int, on_error: str, task: str | None) -> None:
    if max_batch_tokens < 1:
        raise BtoksError(f"max_batch_tokens={max_batch_tokens}", "not a token budget", "pass at least 1")
    if on_error not in ("raise", "skip"):
        raise BtoksError(f"on_error={on_error!r}", "there is none", "pass 'raise' or 'skip'")
    if task is not None and task not in _PROMPTS:
        raise BtoksError(f"task={task!r}", "there is none", did_you_mean(task, _PROMPTS))


def _consume(model: SentenceTransformer, ready: queue.Queue[Any], memories: bool) -> Iterator[Encoded]:
    while (batch := ready.get()) is not None:
        if isinstance(batch, BaseException):
            raise batch
        if batch.indices:
            for index, vector_D, own in zip(batch.indices, *_forward(model, batch.features, memories), strict=True):
                batch.window.done[index] = Encoded(index, vector_D, memory=own)
        else:
            yield from (batch.window.done[index] for index in sorted(batch.window.done))


def _forward(model: SentenceTransformer, features: dict[str, Any], memories: bool) -> tuple[Any, list[Memory | None]]:
    with torch.inference_mode():
        if memories:
            vectors_BD, held = memory(model, features)
        else:
            vectors_BD, held = model(batch_to_device(features, model.device))["sentence_embedding"], None
    own = [None if held is None else held[row : row + 1].to("cpu") for row in range(len(vectors_BD))]
    return vectors_BD[:, : model.truncate_dim].float().cpu().numpy(), own


@dataclass(frozen=True)
class _Reader:
    """The producer's settings, and its steps: decode, fit, sort, preprocess."""

    model: SentenceTransformer
    on_error: str
    limits: Limits
    max_batch_tokens: int
    options: dict[str, Any]

    def take(self, window: _Window, index: int, given: Any, load: Callable[[Source], Any]) -> None:
        """Put an item into the window, or what is wrong with it."""
        try:
            item = self.item(given, load)
            tokens, held = cost(self.model, item), nbytes(item)
        except BtoksError as error:
            self.failed(window, index, error)
        except Exception as error:
            reason = f"it cannot be taken ({_line(error)})"
            self.failed(window, index, BtoksError(f"item {index}", reason, "pass text, images or videos"), error)
        else:
            window.items.append((index, item, tokens))
            window.nbytes += held

    def item(self, given: Mapping[str, Any] | Source | str, load: Callable[[Source], Any]) -> dict[str, Any]:
        """A decoded item within the budget."""
        if isinstance(given, Source):
            return fit(self.model, load(given))
        if isinstance(given, str):
            return fit(self.model, {"text": given})
        decoded: dict[str, Any] = {}
        for key, value in given.items():
            opens = key in ("image", "video") and value is not None
            decoded[key] = _media(key, value, load) if opens else value
        return fit(self.model, decoded)

    def batches(self, window: _Window) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """The window's items by kind and length, cut where the padded batch would pass the budget."""
        batch: list[tuple[int, dict[str, Any]]] = []
        kind: object = None
        for index, item, tokens in sorted(window.items, key=lambda each: (self.kind(each[1]), each[2], each[0])):
            if batch and ((len(batch) + 1) * tokens > self.max_batch_tokens or self.kind(item) != kind):
                yield batch
                batch = []
            kind = self.kind(item)
            batch.append((index, item))
        if batch:
            yield batch

    def kind(self, item: Mapping[str, Any]) -> tuple[bool, int]:
        """What may share a batch: texts apart from visuals; clips of one length where frames are stacked."""
        clip = item.get("video")
        if clip is None:
            return set(item) != {"text"}, 0
        by_grid = "video_grid_thw" in transformer(self.model).processor.video_processor.model_input_names
        return True, 0 if by_grid else len(clip["array"] if isinstance(clip, Mapping) else clip)

    def preprocess(self, window: _Window, batch: list[tuple[int, dict[str, Any]]]) -> Iterator[_Batch]:
        """The batch as features; in halves if it is longer than was thought, one by one to find a bad item."""
        indices = [index for index, _ in batch]
        try:
            features = self.model.preprocess([item for _, item in batch], **self.options)
        except Exception as error:
            if len(batch) > 1:
                yield from (out for each in batch for out in self.preprocess(window, [each]))
                return
            reason = f"the processor refuses it: {_line(error)}"
            self.failed(window, indices[0], BtoksError(f"item {indices[0]}", reason, "pass another"), error)
            return
        if len(batch) > 1 and features["attention_mask"].numel() > self.max_batch_tokens:
            half = len(batch) // 2
            yield from self.preprocess(window, batch[:half])
            yield from self.preprocess(window, batch[half:])
        else:
            yield _Batch(window, indices, features)

    def failed(self, window: _Window, index: int, error: BtoksError, cause: BaseException | None = None) -> None:
        """Note a bad item, or end the run with it."""
        if self.on_error == "raise":
            raise error from cause
        window.done[index] = Encoded(index, error=error)


def _produce(
    reader: _Reader,
    items: Iterable[Mapping[str, Any] | Source | str],
    ready: queue.Queue[_Batch | BaseException | None],
    stop: threading.Event,
) -> None:
    """Fill the queue until the items end or the consumer is gone."""
    with ExitStack() as stack:
        try:
            load = _loader(reader, stack)
            window = _Window()
            for index, given in enumerate(items):
                reader.take(window, index, given, load)
                if window.full():
                    _flush(reader, window, ready, stop)
                    window = _Window()
                if stop.is_set():
                    return
            _flush(reader, window, ready, stop)
            _put(ready, None, stop)
        except BaseException as error:
            _put(ready, error, stop)


def _loader(reader: _Reader, stack: ExitStack) -> Callable[[Source], Any]:
    if reader.on_error == "skip":
        return stack.enter_context(Decoder(reader.limits)).load
    return lambda source: load_media(source, reader.limits)


def _flush(
    reader: _Reader, window: _Window, ready: queue.Queue[_Batch | BaseException | None], stop: threading.Event
) -> None:
    for batch in reader.batches(window):
        for prepared in reader.preprocess(window, batch):
            _put(ready, prepared, stop)
            if stop.is_set():
                return
    window.items.clear()
    _put(ready, _Batch(window), stop)


def _put(ready: queue.Queue[Any], value: Any, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(queue.Full):
            ready.put(value, timeout=0.1)
            return


def _drain(ready: queue.Queue[Any]) -> None:
    with suppress(queue.Empty):
        while True:
            ready.get_nowait()


def _media(key: str, value: Any, load: Callable[[Source], Any]) -> Any:
    """A field's value decoded: paths, URLs and bytes are opened, what is decoded already stays."""
    if isinstance(value, list | tuple) and key == "image":
        return [_media(key, each, load) for each in value]
    undecoded = isinstance(value, str | Path | bytes | Source) or (
        key == "video" and isinstance(value, list) and value and isinstance(value[0], str | Path | bytes)
    )
    if not undecoded:
        return value
    source = value if isinstance(value, Source) else Source(value)
    item = load(source)
    if key not in item:
        raise BtoksError(source.name, f"it holds no {key} (found {', '.join(item)})", f"pass it as {next(iter(item))}")
    return item[key]


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _prompt(model: SentenceTransformer, task: str | None) -> str | None:
    for name in _PROMPTS[task] if task else ():
        if name in model.prompts:
            return model.prompts[name] or None
    return model.prompts.get(model.default_prompt_name or "") or None
