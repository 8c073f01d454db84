"""The first result: embed the bundled sample, search it by text and by picture, and show what was found.

Until a trained model is bundled, a small one is trained on the sample's own captions and cached. So the demo shows
how the parts work together; it says nothing about quality, since the model has seen every picture it finds.
"""

from __future__ import annotations

import hashlib
import json as json_format
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.bundled import Caption, captions, sample
from btoks.media import Limits

if TYPE_CHECKING:
    from rich.console import Console
    from sentence_transformers import SentenceTransformer

QUERIES: tuple[str | Path, ...] = (
    "jellyfish in blue water",
    "thunderstorms with rain",
    "the Amazon rainforest",
    Path("photos/grocery/banana-1.jpg"),
)
_STEPS, _BATCH, _SIDE = 200, 32, 192


_LIMITS = Limits(frames=4)
Place = tuple[str, str, int | None]  # path, kind, page


@dataclass(frozen=True)
class Found:
    """A file of the sample, or a page of one, and how near it is to the query."""

    path: str
    kind: str
    page: int | None
    score: float


def run(*, json: bool = False) -> None:
    """Train or open the model, embed the sample, search it four times, and print the hits."""
    from rich.console import Console

    import btoks
    from btoks.convert import cache_dir

    notes = Console(stderr=True, highlight=False)
    home = cache_dir() / "demo"
    if not home.is_dir():
        notes.print("No trained model is bundled yet: training one on the sample's captions, about three minutes.")
        start = time.perf_counter()
        btoks.save(train(notes), home)
        notes.print(f"Trained in {time.perf_counter() - start:.0f} s and kept in {home}")
    model = btoks.load(home)
    start = time.perf_counter()
    places, vectors_ND = embed_sample(model)
    seconds = time.perf_counter() - start
    notes.print(f"Embedded {len(places)} files and pages in {seconds:.1f} s, {len(places) / seconds:.0f} a second.\n")
    for query in QUERIES:
        start = time.perf_counter()
        hits = search(model, query, places, vectors_ND)
        show(query, hits, time.perf_counter() - start, as_json=json)


def search(
    model: SentenceTransformer,
    query: str | Path,
    places: list[tuple[str, str, int | None]],
    vectors_ND: Any,
    k: int = 5,
) -> list[Found]:
    """The `k` places nearest to a text or to a picture of the sample, which is not its own hit."""
    from btoks import Source, encode_stream

    given = query if isinstance(query, str) else Source(sample() / query)
    vector_D = next(iter(encode_stream(model, [given], task="query"))).embedding
    scores_N = vectors_ND @ vector_D
    order = sorted(range(len(places)), key=lambda at: (-scores_N[at], places[at]))
    hits = (Found(*places[at], float(scores_N[at])) for at in order if places[at][0] != str(query))
    return [next(hits) for _ in range(k)]


def embed_sample(model: SentenceTransformer) -> tuple[list[Place], Any]:
    """Every file of the sample, PDFs by page, as (path, kind, page), and their vectors."""
    from btoks import Source, encode_stream
    from btoks.media import kind, page_count

    places: list[Place] = []
    sources: list[Source] = []
    for file in sorted(path for folder in sample().iterdir() if folder.is_dir() for path in folder.rglob("*.*")):
        what = kind(Source(file))
        for page in range(1, page_count(Source(file)) + 1) if what == "pdf" else [None]:
            sources.append(Source(file, page=page))
            places.append((file.relative_to(sample()).as_posix(), "page" if page else what, page))
    found = encode_stream(model, sources, task="document", limits=_LIMITS)
    return places, np.stack([out.embedding for out in found if out.embedding is not None])


def show(query: str | Path, hits: list[Found], seconds: float, *, as_json: bool) -> None:
    """One query and its hits, as a table or as a line of JSON."""
    from rich.console import Console
    from rich.table import Table

    asked = {"text": query} if isinstance(query, str) else {"image": query.as_posix()}
    if as_json:
        line = {"query": asked, "seconds": round(seconds, 4), "hits": [vars(hit) for hit in hits]}
        sys.stdout.write(json_format.dumps(line, ensure_ascii=False) + "\n")
        return
    title = f"{next(iter(asked))}: {next(iter(asked.values()))}   ({1e3 * seconds:.0f} ms)"
    table = Table(title=title, title_justify="left", title_style="bold", min_width=72)
    for name, align in (("score", "right"), ("kind", "left"), ("file", "left")):
        table.add_column(name, justify=align)  # type: ignore[arg-type]
    for hit in hits:
        table.add_row(f"{hit.score:.2f}", hit.kind, hit.path + (f", page {hit.page}" if hit.page else ""))
    Console().print(table)


def train(notes: Console, *, steps: int = _STEPS) -> SentenceTransformer:
    """A small model trained on the sample: captions find media, and media tell their captions."""
    import torch
    from datasets.arrow_dataset import Dataset
    from sentence_transformers import SentenceTransformerTrainer
    from sentence_transformers.base.model_card import BaseModelCardCallback
    from transformers import PrinterCallback, ProgressCallback

    from btoks.bottleneck import attach, record
    from btoks.training.loss import CondensationLoss
    from btoks.training.scratch import Size, backbone

    shown = captions()
    texts = [text for caption in shown for text in caption.texts]
    torch.manual_seed(0)
    model = attach(
        backbone(texts, Size(vocabulary=2048, hidden=192, layers=3, feed=512, visual_tokens=9)), max_tokens=64
    )
    model.model_card_data.widget = [{"text": str(QUERIES[0])}]  # else the trainer draws some, with a bar of its own
    rows = Dataset.from_dict({"step": list(range(steps * _BATCH))})
    rows.set_transform(_Pairs(model, shown))
    loss = CondensationLoss(model, weight=1.0, side="query", temperature=0.05, mini_batch_size=_BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SentenceTransformerTrainer(
            model=model, args=_arguments(scratch, steps), train_dataset=rows, loss=loss
        )
        for noisy in (PrinterCallback, ProgressCallback, BaseModelCardCallback):
            trainer.remove_callback(noisy)
        trainer.add_callback(_told(notes))
        trainer.train()
    record(model)["data"] = [f"the sample that btoks brings along: {len(shown)} captioned files and pages"]
    return model.eval()


def _arguments(folder: str, steps: int) -> Any:
    from sentence_transformers import SentenceTransformerTrainingArguments

    return SentenceTransformerTrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=_BATCH,
        learning_rate=3e-4,
        warmup_steps=20,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        logging_steps=40,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )


class _Pairs:
    """Rows of (caption, media) by their number: shuffled epochs of the sample, one wording at a time."""

    def __init__(self, model: SentenceTransformer, shown: list[Caption]) -> None:
        from btoks import Source, fit
        from btoks.media import load

        self.texts = [[fit(model, {"text": text}) for text in caption.texts] for caption in shown]
        self.labels = [_number(caption.texts[0]) for caption in shown]
        sources = (Source(caption.path, page=caption.page) for caption in shown)
        self.items = [_small(fit(model, load(source, _LIMITS))) for source in sources]

    def __call__(self, rows: dict[str, list[int]]) -> dict[str, list[Any]]:
        picked = [self._row(number) for number in rows["step"]]
        return {key: [row[key] for row in picked] for key in ("anchor", "positive", "label")}

    def _row(self, number: int) -> dict[str, Any]:
        epoch, place = divmod(number, len(self.items))
        at = np.random.default_rng(epoch).permutation(len(self.items))[place]
        text = self.texts[at][epoch % len(self.texts[at])]
        return {"anchor": text, "positive": self.items[at], "label": self.labels[at]}


def _number(text: str) -> int:
    """Captions that say the same share a number, so that their pictures are not each other's negatives."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _small(item: dict[str, Any]) -> dict[str, Any]:
    """The item with its picture near the size the model sees: pages are large, and read hundreds of times."""
    if "image" in item:
        item["image"].thumbnail((_SIDE, _SIDE))
    return item


def _told(notes: Console) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        """A line of progress now and then."""

        def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            logs = given.get("logs") or {}
            if "loss" in logs:
                notes.print(f"  step {state.global_step} of {state.max_steps}, loss {float(logs['loss']):.2f}")

    return Told()
