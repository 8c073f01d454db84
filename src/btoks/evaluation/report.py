"""What an evaluation found, and the files it is kept in.

OUT/<dataset>_score.json    metrics, counts, what was missing, one prompt of each side, where the data came from
OUT/<dataset>_pred.jsonl    a line a query: its ranking, what was relevant, what it scored
OUT/summary.json            model, revision, settings, versions, time, one line a data set
OUT/leaderboard.json        MMEB-V2's own submission format, data sets by their published keys
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.bottleneck import generator, record
from btoks.errors import BtoksError
from btoks.evaluation.files import file_name, whole, write_json
from btoks.evaluation.fingerprint import versions
from btoks.evaluation.mmeb.registry import select

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Prediction:
    """One query: the best candidates in order, their scores, what is relevant, and the value of the task's metric."""

    query: str
    ranking: tuple[str, ...]
    scores: tuple[float, ...]
    relevant: Mapping[str, float]
    value: float
    missing: str = ""


@dataclass(frozen=True)
class Result:
    """One data set's outcome; `about` is the task's own."""

    name: str
    metric: str
    metrics: Mapping[str, float]
    predictions: tuple[Prediction, ...]
    candidates: int
    missing_candidates: Mapping[str, str]
    prompts: Mapping[str, str]
    chance: float | None
    warnings: tuple[str, ...]
    seconds: float
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The metric that the task is about."""
        return self.metrics[self.metric]

    @property
    def missing_queries(self) -> dict[str, str]:
        """Queries that could not be embedded and count as misses, with the reason."""
        return {each.query: each.missing for each in self.predictions if each.missing}

    def record(self) -> dict[str, Any]:
        """All but the predictions, as JSON has it."""
        missing = {"queries": self.missing_queries, "candidates": dict(self.missing_candidates)}
        return {
            "dataset": self.name,
            "metric": self.metric,
            "score": self.score,
            "metrics": {**self.metrics, "num_pred": len(self.predictions), "num_data": len(self.predictions)},
            "candidates": self.candidates,
            "missing_media": {side: len(found) for side, found in missing.items()},
            "missing": {side: dict(list(found.items())[:20]) for side, found in missing.items()},
            "prompts": dict(self.prompts),
            "chance": self.chance,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
            **self.about,
        }


@dataclass
class Report:
    """The results of a run, what failed and why, and what ran."""

    model: dict[str, Any]
    settings: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __getitem__(self, name: str) -> Result:
        for result in self.results:
            if result.name == name:
                return result
        raise BtoksError(name, f"no result ({self.failed.get(name, 'it was not run')})", "run it first")

    def scores(self) -> dict[str, float]:
        """Every data set's score.

        >>> Report({}, {}).scores()
        {}
        """
        return {result.name: result.score for result in self.results}

    def summary(self) -> dict[str, Any]:
        """The whole run in one object, without predictions."""
        keys = ("metric", "score", "candidates", "missing_media", "chance", "warnings", "seconds")
        rows = [result.record() for result in self.results]
        about = ("modality", "meta_task", "revision", "official", "data")
        return {
            "model": self.model,
            "settings": self.settings,
            "versions": versions(),
            "seconds": round(self.seconds, 3),
            "datasets": {
                row["dataset"]: {"queries": row["metrics"]["num_data"]}
                | {key: row[key] for key in (*keys, *about) if key in row}
                for row in rows
            },
            "failed": dict(self.failed),
        }

    def leaderboard(self) -> dict[str, Any]:
        """The benchmark's submission file; a data set of it that has no result says so."""
        found = {result.about["key"]: result.record() for result in self.results if "key" in result.about}
        metrics: dict[str, dict[str, Any]] = {}
        if self.settings.get("benchmark") == "MMEB-V2":
            for row in select(revision=self.settings["revision"]):
                metrics.setdefault(row.modality, {})[row.published] = "FILE_N/A"
        for key, each in found.items():
            metrics.setdefault(each["modality"], {})[key] = each["metrics"]
        metadata = {
            "model_name": self.model.get("name"),
            "model_backbone": self.model.get("backbone"),
            "model_size": self.model.get("parameters"),
            "embedding_dimension": self.model.get("dim"),
            "max_length_tokens": self.model.get("max_tokens"),
            "model_release_date": None,
            "data_source": "Self-Reported",
            "url": None,
            "report_generated_date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        return {"metadata": metadata, "metrics": metrics}

    def write(self, out: Path) -> None:
        """Write the summary, and of the benchmark's data sets the submission file.

        The data sets' own files are written as they are done.
        """
        write_json(out / "summary.json", self.summary())
        board = self.leaderboard()
        if board["metrics"]:
            write_json(out / "leaderboard.json", board)


def write_result(result: Result, out: Path, model: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write one data set's predictions, then its scores."""
    name = file_name(result.name)
    with whole(out / f"{name}_pred.jsonl") as rest, rest.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in result.predictions)
    write_json(out / f"{name}_score.json", {**result.record(), "model": model, "settings": settings})


def model_facts(model: SentenceTransformer, name: str | None, key: str) -> dict[str, Any]:
    """What a reader of the numbers must know about the model: layout, pixel budget, padding, pooling, precision."""
    notes = record(model)
    module: Any = model[0]
    size = getattr(getattr(module.processor, "image_processor", None), "size", None)
    return {
        "name": name or notes["backbone"],
        "revision": key,
        "backbone": notes["backbone"],
        "parameters": sum(each.numel() for each in generator(model).parameters())
        if "generator" in vars(module)
        else None,
        "dim": model.truncate_dim or model.get_embedding_dimension(),
        "tokens": notes["tokens"],
        "pooling": notes["pooling"],
        "layout": notes["layout"],
        "max_tokens": notes["max_tokens"],
        "pixels": dict(size) if size is not None else None,
        "padding": module.processing_kwargs.get("text", {}).get("padding_side"),
        "precision": str(model.dtype).removeprefix("torch."),
    }
