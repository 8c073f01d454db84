"""A look at a recipe's data before it costs a day: sizes, lengths, prompts as the model sees them, what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from btoks.inputs import fit
from btoks.training.data import Mixture, Set

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.training.recipe import Recipe

_PROMPTS = 3
_ENDS = 400


@dataclass
class Finding:
    """What a sample of one data set shows. Lengths are (shortest, median, longest), in tokens of the whole prompt."""

    name: str
    rows: int = 0
    side: str = ""
    share: float = 0.0
    opened: int = 0
    sizes: dict[str, str] = field(default_factory=dict)
    query_tokens: tuple[int, int, int] | None = None
    document_tokens: tuple[int, int, int] | None = None
    prompts: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def inspect(recipe: Recipe, model: SentenceTransformer, rows: int = 20) -> list[Finding]:
    """Open evenly spread rows of every data set, as training would, and tell what they are.

    >>> [each.problems for each in inspect(recipe, model)]  # doctest: +SKIP
    [[], []]
    """
    total = sum(each.weight for each in recipe.sets)
    return [_inspected(recipe, model, each, rows, each.weight / total) for each in recipe.sets]


def _inspected(recipe: Recipe, model: SentenceTransformer, chosen: Set, rows: int, share: float) -> Finding:
    finding = Finding(chosen.name, side=chosen.side, share=share)
    try:
        mixture = Mixture((chosen,), recipe.folder)
    except Exception as error:
        finding.problems.append(_line(error))
        return finding
    finding.rows = mixture.lengths[0]
    opened = _opened(mixture, finding, rows)
    lengths: dict[str, list[int]] = {"query": [], "positive": []}
    for each in opened:
        shown = {}
        for column, prompt in (("query", chosen.instruction), ("positive", chosen.document_instruction)):
            try:
                ids = model.preprocess([fit(model, each["items"][column])], prompt=prompt)["input_ids"][0]
            except Exception as error:
                finding.problems.append(f"{each['id']}: the processor refuses its {column} ({_line(error)})")
                continue
            lengths[column].append(len(ids))
            shown[column] = _short(model.tokenizer.decode(ids))
        if len(finding.prompts) < _PROMPTS:
            finding.prompts.append({"id": each["id"], **shown})
    finding.query_tokens, finding.document_tokens = _spread(lengths["query"]), _spread(lengths["positive"])
    finding.sizes = _sizes(opened)
    finding.problems += _doubts(recipe, chosen, mixture, opened)
    return finding


def _opened(mixture: Mixture, finding: Finding, rows: int) -> list[dict[str, Any]]:
    total, opened = finding.rows, []
    for place in range(min(rows, total)):
        number = place * total // min(rows, total)
        try:
            opened.append(mixture.opened(0, mixture.rows[0].row(number, 0)))
        except Exception as error:
            finding.problems.append(f"row {number}: {_line(error)}")
    finding.opened = len(opened)
    return opened


def _doubts(recipe: Recipe, chosen: Set, mixture: Mixture, opened: list[dict[str, Any]]) -> list[str]:
    """What opens and still cannot be meant."""
    found = []
    spoken = {"positive": ("positive",), "query": ("query",), "both": ("query", "positive"), "none": ()}[chosen.side]
    for column in spoken:
        without = sum("text" not in each["items"][column] for each in opened)
        if opened and without == len(opened):
            found.append(f"side={chosen.side!r}, but no {column} has a text to generate")
    if mixture.lengths[0] < recipe.batch:
        found.append(f"{mixture.lengths[0]} rows are fewer than a batch of {recipe.batch}: rows repeat within it")
    if opened and len({each["hashes"][0] for each in opened}) == 1 < len(opened):
        found.append("every sampled positive is the same: there are no negatives")
    return found


def _sizes(opened: list[dict[str, Any]]) -> dict[str, str]:
    """What kinds of inputs there are on each side, and the smallest and largest picture or clip."""
    out = {}
    for column in ("query", "positive"):
        kinds = Counter(" + ".join(sorted(each["items"][column])) for each in opened)
        pictures = [each["items"][column]["image"].size for each in opened if "image" in each["items"][column]]
        clips = [each["items"][column]["video"]["array"].shape for each in opened if "video" in each["items"][column]]
        told = [f"{count} {kind}" for kind, count in sorted(kinds.items())]
        if pictures:
            low, high = (f(pictures, key=lambda size: size[0] * size[1]) for f in (min, max))
            told.append(f"pictures {low[0]}×{low[1]} to {high[0]}×{high[1]}")
        if clips:
            told.append(f"clips of {min(s[0] for s in clips)} to {max(s[0] for s in clips)} frames")
        out[column] = ", ".join(told)
    return out


def _spread(lengths: list[int]) -> tuple[int, int, int] | None:
    if not lengths:
        return None
    ordered = sorted(lengths)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def _short(text: str) -> str:
    """Runs of one visual token shortened, and no more than both ends of a long prompt."""
    import re

    text = re.sub(r"(<[^<>]+>)(\1){3,}", lambda run: f"{run[1]}×{len(run[0]) // len(run[1])}", text)
    return text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]} … {text[-_ENDS:]}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
