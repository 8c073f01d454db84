"""From rows of the registry to tasks: loaded by the format's loader, checked against the table before any encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from btoks.errors import BtoksError
from btoks.evaluation import processes
from btoks.evaluation.mmeb import media
from btoks.evaluation.mmeb.data import Data
from btoks.evaluation.mmeb.images import image_rows
from btoks.evaluation.mmeb.loading import Found, Loading
from btoks.evaluation.mmeb.pages import pages
from btoks.evaluation.mmeb.registry import Row
from btoks.evaluation.mmeb.tables import Repository
from btoks.evaluation.mmeb.videos import clip_folders, listed_clips, video_choices, video_labels, videos
from btoks.evaluation.run import Unloaded
from btoks.evaluation.task import DataError, Task

FRAMES = 8
_LOADERS: dict[str, Callable[[Loading], Found]] = {
    "image_query_text_candidates": image_rows,
    "text_query_image_candidates": image_rows,
    "image_query_image_candidates": image_rows,
    "video_query_global_labels": video_labels,
    "video_query_local_labels": video_labels,
    "video_mcq": video_choices,
    "text_query_global_videos": videos,
    "video_query_clip_folder": clip_folders,
    "video_query_listed_clips": listed_clips,
    "beir_pages": pages,
}


def tasks(
    rows: Iterable[Row],
    *,
    data: str | Path | None = None,
    revision: str = "fixed",
    frames: int = FRAMES,
    any_counts: bool = False,
) -> Iterator[Task | Unloaded]:
    """The rows' tasks, each loaded when it is its turn; one that cannot be loaded does not stop the others.

    >>> from btoks.evaluation.mmeb.registry import select
    >>> [task.name for task in tasks(select(task="V-MR"), data="/nowhere")]
    ['QVHighlight', 'Charades-STA', 'MomentSeeker']
    """
    for row in rows:
        found: Task | Unloaded
        try:
            with processes.first():
                found = load(row, data=data, revision=revision, frames=frames, any_counts=any_counts)
        except BtoksError as error:
            found = Unloaded(row.name, error)
        yield found


def load(
    row: Row,
    *,
    data: str | Path | None = None,
    revision: str = "fixed",
    frames: int = FRAMES,
    any_counts: bool = False,
) -> Task:
    """One data set, from a local folder or the hub; its counts must be the table's unless `any_counts`."""
    media.forget()
    source = Data(None if data is None else Path(data))
    config = ("queries", "corpus", "qrels") if row.format == "beir_pages" else row.config
    repository = source.repository(row.repo, config, row.split)
    loading = Loading(row, source, repository, frames, exact=not any_counts)
    try:
        found = _LOADERS[row.format](loading)
    except (LookupError, OSError, TypeError, ValueError) as error:
        reason = f"its data are not as they should be ({type(error).__name__}: {error})"
        raise DataError(row.name, reason, "download them again") from error
    for what, have, want in (
        ("queries", len(found.queries), row.queries),
        ("candidates", len(found.corpus), row.corpus),
    ):
        if want is not None and have != want and not any_counts:
            raise DataError(row.name, f"{have} {what} where there should be {want}", "use --any-counts to go on")
    about = {
        "benchmark": "MMEB-V2",
        "revision": revision,
        "official": not any_counts,
        "modality": row.modality,
        "meta_task": row.meta_task,
        "group": row.group,
        "key": row.published,
        "frames": frames if row.modality == "video" else None,
        "data": _provenance(repository, source, found),
    }
    return Task(row.name, found.queries, found.corpus, found.relevant, found.candidates, row.metric, about)


def _provenance(repository: Repository, source: Data, found: Found) -> dict[str, Any]:
    """The commits on the hub; of a local folder, what its tables hold."""
    if repository.commit is None:
        return {
            "repo": repository.name,
            "content": {name or "default": table.key() for name, table in found.tables.items()},
        }
    return {"repo": repository.name, "commit": repository.commit, **source.commits}
