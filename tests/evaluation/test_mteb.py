"""mteb runs a btoks model on texts and on pictures, and scores our tasks as we do."""

from __future__ import annotations

import importlib
import io

import mteb
import numpy as np
import pytest

from btoks.errors import BtoksError
from btoks.evaluation import Entry, Task, evaluate
from items import attached, clip, fresh, picture, streamed

bridge = importlib.import_module("btoks.evaluation.mteb")

WORDS = ["a red bus", "the garden", "two people read a book", "a lazy dog", "the station page"]


def texts() -> Task:
    queries = [Entry(f"q{place}", text=f"find {text}", instruction="Find it:") for place, text in enumerate(WORDS)]
    corpus = [Entry(f"d{place}", text=text) for place, text in enumerate(WORDS)]
    relevant = {f"q{place}": {f"d{place}": 2.0, f"d{(place + 1) % 5}": 1.0} for place in range(5)}
    return Task("Words", queries, corpus, relevant, metric="ndcg_linear@5")


def pages() -> Task:
    corpus = []
    for place in range(4):
        data = io.BytesIO()
        picture(place, 40, 60).save(data, "PNG")
        corpus.append(Entry(f"d{place}", image=data.getvalue(), instruction="Understand the page."))
    queries = [Entry(f"q{place}", text=text, instruction="Find the page:") for place, text in enumerate(WORDS[:4])]
    relevant = {f"q{place}": {f"d{place}": 1.0} for place in range(4)}
    candidates = {f"q{place}": ["d0", "d1", "d2", "d3"][: place + 1] for place in range(4)}
    return Task("Pages", queries, corpus, relevant, candidates, metric="hit@1")


@pytest.mark.parametrize("make", [texts, pages])
def test_mteb_scores_a_task_as_we_do(make) -> None:
    task = make()
    model = attached("qwen3_vl")
    ours = evaluate(model, [task])[task.name]
    found = mteb.evaluate(bridge.mteb_model(model), bridge.as_mteb(task), cache=None, show_progress_bar=False)
    (scores,) = found.task_results[0].scores["test"]
    assert scores["main_score"] == pytest.approx(ours.score, abs=1e-5)
    assert scores["recall_at_1"] == pytest.approx(ours.metrics["recall@1"], abs=1e-5)
    assert scores["mrr_at_10"] == pytest.approx(ours.metrics["mrr@10"], abs=1e-5)


def test_the_model_says_what_it_takes_and_is_named_by_its_weights() -> None:
    known = bridge.mteb_model(attached("qwen3_vl")).mteb_model_meta
    assert known.modalities == ["text", "image", "video"]
    changed = fresh("qwen3_vl")
    assert bridge.mteb_model(changed).mteb_model_meta.revision == known.revision
    next(changed.parameters()).data.add_(0.01)
    assert bridge.mteb_model(changed).mteb_model_meta.revision != known.revision


class Held:
    """A decoded video as mteb's collator asks for it."""

    def __init__(self, frames: np.ndarray) -> None:
        import torch

        self.frames = torch.from_numpy(frames)
        self.metadata = type("Metadata", (), {"num_frames": len(frames)})

    def get_frames_at(self, indices: list[int]) -> object:
        return type("Frames", (), {"data": self.frames[indices].permute(0, 3, 1, 2)})


def test_videos_reach_the_model_as_frames() -> None:
    from torch.utils.data import DataLoader, Dataset

    class Videos(Dataset):
        features = {"video": None, "text": None}

        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> dict:
            return {"video": Held(clip(place, 16)["array"]), "text": WORDS[place]}

    model = attached("qwen3_vl")
    metadata = bridge.as_mteb(texts()).metadata
    have = bridge.mteb_model(model, frames=4).encode(DataLoader(Videos(), batch_size=2), task_metadata=metadata)
    assert have.shape == (2, model.get_embedding_dimension())
    plain = streamed(model, [{"text": text} for text in WORDS[:2]], prompt="Find it:")
    assert np.abs(have - plain).max() > 1e-3


def test_what_mteb_cannot_hold_is_refused() -> None:
    asked = texts()
    mixed = Task(
        "Mixed", [Entry("q0", text="a", instruction="One:"), Entry("q1", text="b")], asked.corpus, asked.relevant
    )
    with pytest.raises(BtoksError, match="2 instructions"):
        bridge.as_mteb(mixed)
    with pytest.raises(BtoksError, match="mteb has no f1@5"):
        bridge.as_mteb(Task("F", asked.queries, asked.corpus, asked.relevant, metric="f1@5"))
    moving = Task("V", [Entry("q0", video=["a.jpg"])], asked.corpus, asked.relevant)
    with pytest.raises(BtoksError, match="texts and pictures"):
        bridge.as_mteb(moving)
