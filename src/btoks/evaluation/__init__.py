"""Evaluation: retrieval tasks as data, one way to run them, metrics and rankings that can be trusted.

    Task ──check──▶ embeddings (cached) ──▶ rankings ──▶ metrics ──▶ Report

`btoks.evaluation.mmeb` holds the 78 data sets of MMEB-V2, `btoks.evaluation.mteb` the way to and from mteb. Names are
imported when they are first used: tables and comparisons of results need no model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btoks.evaluation.report import Report, Result
    from btoks.evaluation.run import evaluate
    from btoks.evaluation.task import DataError, Entry, Task

_HOME = {
    "DataError": "task",
    "Entry": "task",
    "Report": "report",
    "Result": "report",
    "Task": "task",
    "evaluate": "run",
}
__all__ = ["DataError", "Entry", "Report", "Result", "Task", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
