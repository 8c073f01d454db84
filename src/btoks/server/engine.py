"""A model that stays loaded: what it is given is decoded, batched with what others give, and embedded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.encode import encode_stream
from btoks.errors import BtoksError
from btoks.inputs import cost, fit
from btoks.server.batching import Batcher
from btoks.server.schemas import Given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    from btoks.server.metrics import Metrics
    from btoks.server.opening import Opened, Opener
    from btoks.server.state import Settings

_CHUNK = 32
"""So many inputs of one request wait at once: a long list leaves room for others between its pieces."""
_MEDIA = 16
"""So many decoded pictures and clips are held at once."""


@dataclass(frozen=True)
class Embedded:
    """A vector, and what it was made of."""

    vector_D: NDArray[np.float32]
    tokens: int
    words: str
    kind: str | None


class Engine:
    """One model, the queue before it, and its name; `of` is how libraries note it, None where it stays without one."""

    def __init__(
        self,
        name: str,
        model: SentenceTransformer,
        opener: Opener,
        settings: Settings,
        metrics: Metrics,
        of: str | None = None,
    ) -> None:
        self.name, self.model, self.of, self._opener = name, model, of, opener
        self.batcher = Batcher(
            self._run,
            max_wait=settings.max_wait,
            max_tokens=settings.max_tokens,
            max_queue=settings.max_queue,
            observe=metrics.batch.observe,
        )
        self._room = asyncio.Semaphore(_MEDIA)
        self._max_tokens = settings.max_tokens

    def start(self) -> None:
        """Begin to batch, in the running event loop."""
        self._room = asyncio.Semaphore(_MEDIA)
        self.batcher.start()

    async def embed(self, given: Sequence[Given | str], task: str | None) -> list[Embedded]:
        """The embeddings of some inputs; FullError where too many wait already."""
        inputs = [Given(text=each) if isinstance(each, str) else each for each in given]
        found: list[Embedded] = []
        with self.batcher.admitted(len(inputs)):
            for start in range(0, len(inputs), _CHUNK):
                tasks = [asyncio.create_task(self._one(each, task)) for each in inputs[start : start + _CHUNK]]
                try:
                    found += await asyncio.gather(*tasks)
                finally:
                    for each in tasks:
                        each.cancel()
        return found

    async def _one(self, given: Given, task: str | None) -> Embedded:
        async with AsyncExitStack() as stack:
            if given.model_fields_set - {"text"}:
                await stack.enter_async_context(self._room)
                opened = await asyncio.get_running_loop().run_in_executor(self._opener.thread, self._opener.open, given)
            else:
                opened = self._opener.open(given)
            vector_D, tokens = await self.batcher.submit(opened.item, task, self._estimate(opened))
        return Embedded(vector_D, tokens, opened.words, opened.kind)

    def _estimate(self, opened: Opened) -> int:
        """About how many tokens; the tokenizer itself is the model's thread's alone."""
        visual = {key: value for key, value in opened.item.items() if key != "text"}
        return len(opened.item.get("text", "")) // 3 + cost(self.model, visual)

    def _run(self, items: Sequence[dict[str, Any]], task: Any) -> list[Any]:
        """A batch in the model's thread: for each item its vector and its tokens, or what is wrong with it."""
        stream = encode_stream(self.model, items, task=task, on_error="skip", max_batch_tokens=self._max_tokens)
        return [out.error or self._checked(out.embedding, item) for out, item in zip(list(stream), items, strict=True)]

    def _checked(self, vector_D: Any, item: dict[str, Any]) -> Any:
        length = float(np.linalg.norm(vector_D))
        if not 0 < length < float("inf"):
            return BtoksError("input", "its embedding has no direction", "give another")
        return vector_D, cost(self.model, fit(self.model, item))
