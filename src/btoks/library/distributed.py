"""A run over many machines by Ray Data: its workers read, decode and embed, and write what one commit joins.

    files ── look: hash, metadata ──▶ this process: what is new ── one model an actor ──▶ fragments ──▶ one commit
Which rows there are is decided by the same code as on one machine. A block whose worker dies is done again by another;
what the dead one had written is in no version of the table. Every machine has to see the files and the library by the
same paths.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError
from btoks.library import schema, settings
from btoks.library.commit import Job
from btoks.library.containers import entries, file_digest
from btoks.library.ingest import Ingest
from btoks.library.names import from_text, to_text
from btoks.library.objects import home
from btoks.library.reading import Reader
from btoks.library.records import Record
from btoks.library.rows import Place, conform, placed
from btoks.library.walk import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentence_transformers import SentenceTransformer

    from btoks.library.commit import Book
    from btoks.library.ingest import Report, Run
    from btoks.library.settings import Settings
    from btoks.library.view import View
    from btoks.library.walk import Found

_FILES, _LOOKED = 16, 256
_ALL = 1 << 62


@dataclass(frozen=True)
class Plan:
    """What every worker is told: the library, its table, the types of its metadata."""

    folder: str
    noted: Settings
    table: str
    types: dict[str, type]
    device: str | None = None


class Distributed(Ingest):
    """One run over some paths, all of them in one piece."""

    def __init__(self, library: View, book: Book, types: dict[str, type], progress: Callable[[Report], Any] | None):
        self._view, self._types = library, types
        super().__init__(book, Reader(book, lambda: library.asker().model, types), progress)

    def _step(self) -> int:
        return _ALL

    def _hashed(self, changed: list[Found]) -> Iterator[Job]:
        """Hash the files, and learn what metadata their rows have: the first value of a column sets its type."""
        import ray

        files = ray.data.from_items([{"path": to_text(found.path)} for found in changed])
        with _one_line():
            looked = {each["path"]: each for each in files.map_batches(_look, batch_size=_LOOKED).iter_rows()}
        for found in changed:
            path = to_text(found.path)
            about = looked[path]
            if about["error"] is not None:
                self._unfinished(unreadable(found.path, OSError(0, about["error"])))
                continue
            for name, kind in json.loads(about["types"]).items():
                self._types.setdefault(name, next(each for each in schema.METADATA if each.__name__ == kind))
            known = self._book.known.get(path)
            root = to_text(found.root) if known is None else known.root
            yield Job(Record(path, root, found.size, found.mtime_ns, about["digest"]))

    def _embed(self, jobs: list[Job]) -> None:
        """Have the files embedded, join what was written, and note them."""
        if not jobs:
            return
        import lance

        store = self._view.lance
        store.prepare(int(self._view.noted.dim or 0), self._types)
        fragments: list[Any] = []
        for outcome in self._outcomes(jobs, str(store.table.uri)):
            fragments += [lance.FragmentMetadata.from_json(each) for each in outcome["fragments"]]
            self._book.present.update(outcome["contents"])
            self.report.embedded += outcome["rows"]
            self._progress(self.report)
        if fragments:
            joined = lance.LanceOperation.Append(fragments)
            lance.LanceDataset.commit(str(store.table.uri), joined, read_version=store.table.version)
        self._written(iter(jobs))

    def _outcomes(self, jobs: list[Job], table: str) -> Iterator[dict[str, Any]]:
        """What came of each block, as it is done; the jobs are told what their files hold."""
        import ray

        plan = Plan(str(self._view.folder), self._view.noted, table, self._types, self._view.device)
        claims = ray.remote(num_cpus=0)(Claims).remote(self._book.present)
        there = ray.cluster_resources()
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        files = ray.data.from_items([_given(job) for job in jobs], override_num_blocks=-(-len(jobs) // _FILES))
        blocks = files.map_batches(
            Embedder,
            fn_constructor_args=(plan, claims),
            batch_size=_FILES,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=gpus or max(1, cpus - 1)),
            num_gpus=1 if gpus else 0,
            num_cpus=1,
        )
        by_path = {job.record.path: job for job in jobs}
        with _one_line():
            for block in blocks.iter_rows():
                outcome: dict[str, Any] = json.loads(block["outcome"])
                if "failed" in outcome:
                    raise BtoksError(*outcome["failed"])
                for told in outcome["files"]:
                    job = by_path[told["path"]]
                    job.entries = [(content, name) for content, name in told["entries"]]
                    job.errors = [BtoksError(*each) for each in told["errors"]]
                    job.trouble = BtoksError(*told["trouble"]) if told["trouble"] else None
                    job.written = told["rows"]
                yield outcome


class Claims:
    """Gives each content to one file; the same one gets it again when its block is done again."""

    def __init__(self, present: set[str]) -> None:
        self._owners: dict[str, str | None] = dict.fromkeys(present)

    def claim(self, content: str, path: str) -> bool:
        """Whether a content is a file's to embed."""
        return self._owners.setdefault(content, path) == path


@dataclass(frozen=True)
class _Known:
    """What a worker's reader knows of the library: the claims know the rest."""

    present: frozenset[str] = frozenset()
    remembers: bool = False


class Embedder:
    """An actor: opens the model once, and makes fragments of blocks of files."""

    def __init__(self, plan: Plan, claims: Any) -> None:
        self._plan, self._claims = plan, claims

    def __call__(self, files: Any) -> dict[str, list[str]]:
        """Embed a block of files, and tell what they hold and what was written."""
        try:
            outcome = self._outcome([Job(Record(**row)) for row in files.to_pylist()])
        except BtoksError as error:
            outcome = {"failed": [error.item, error.reason, error.way_out]}
        return {"outcome": [json.dumps(outcome)]}

    @cached_property
    def _model(self) -> SentenceTransformer:
        from btoks.folder import load

        opened = load(str(self._plan.noted.model), device=self._plan.device)
        settings.verify(home(self._plan.folder), self._plan.noted, opened)
        return opened

    def _outcome(self, jobs: list[Job]) -> dict[str, Any]:
        with Reader(_Known(), lambda: self._model, dict(self._plan.types), self._claim) as reader:
            done = list(reader.embedded(jobs))
        rows = [row for job in done for row in _placed(job)]
        contents = sorted({row["content"] for row in rows})
        files = [_told(job) for job in done]
        return {"files": files, "rows": len(rows), "contents": contents, "fragments": self._fragments(rows)}

    def _claim(self, content: str, path: str) -> bool:
        import ray

        return bool(ray.get(self._claims.claim.remote(content, path)))

    def _fragments(self, rows: list[schema.Row]) -> list[str]:
        if not rows:
            return []
        import lance

        table = schema.arrow(rows, lance.dataset(self._plan.table).schema)
        return [json.dumps(each.to_json()) for each in lance.fragment.write_fragments(table, self._plan.table)]


def run(library: View, book: Book, types: dict[str, type], wanted: Run, progress: Any) -> Report:
    """Bring a library up to date by Ray, on the cluster that RAY_ADDRESS names or on this machine alone."""
    _checked(library)
    import ray

    mine = not ray.is_initialized()
    if mine:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        run = Distributed(library, book, types, progress)
        return run.run(wanted.paths, prune=wanted.prune, force=wanted.force)
    finally:
        if mine:
            ray.shutdown()


def _checked(library: View) -> None:
    """Refuse what the workers cannot make."""
    try:
        import lance  # noqa: F401
        import ray  # noqa: F401
    except ImportError as error:
        raise BtoksError("--engine ray", f"{error.name} is not installed", "pip install 'btoks[ray]'") from error
    if library.lance.codec is not None:
        raise BtoksError(str(library.folder), "its vectors are codes, which Ray's workers do not make", "leave Ray out")
    if library.noted.keep_memory:
        raise BtoksError(str(library.folder), "it keeps memories, which Ray's workers do not make", "leave Ray out")


def _look(files: dict[str, Any]) -> dict[str, list[Any]]:
    """The name of each file's content, and the types of the metadata of its rows."""
    found = [_looked(from_text(str(path))) for path in files["path"]]
    return {"path": list(files["path"]), **{key: [each[key] for each in found] for key in found[0]}}


def _looked(path: str) -> dict[str, str | None]:
    types: dict[str, type] = {}
    try:
        digest = file_digest(path)
        for entry in entries(path, digest):
            if isinstance(entry, BtoksError):
                continue
            if not entry.path.startswith(f"{path}#"):
                break  # only tables have metadata
            try:
                conform(entry.metadata, types, entry.path)
            except BtoksError:
                continue  # told by the worker that embeds the row
    except OSError as error:
        return {"digest": None, "types": None, "error": str(error.strerror)}
    return {"digest": digest, "types": json.dumps({name: kind.__name__ for name, kind in types.items()}), "error": None}


def _placed(job: Job) -> list[schema.Row]:
    """A file's rows where they are in it; where else they are is added by the one process that knows."""
    if job.trouble is not None:
        job.rows = []
    here, at = job.place(job.record.path), defaultdict[str, list[Place]](list)
    for content, name in job.entries:
        at[content].append(replace(here, path=name))
    return [placed(row, at[row["content"]]) for row in job.rows]


def _given(job: Job) -> dict[str, Any]:
    record = job.record
    return {name: getattr(record, name) for name in ("path", "root", "size", "mtime_ns", "digest")}


def _told(job: Job) -> dict[str, Any]:
    errors = [(each.item, each.reason, each.way_out) for each in (*job.errors, *filter(None, [job.trouble]))]
    return {
        "path": job.record.path,
        "entries": job.entries,
        "errors": errors[: len(job.errors)],
        "trouble": errors[-1] if job.trouble is not None else None,
        "rows": len(job.rows),
    }


@contextmanager
def _one_line() -> Iterator[None]:
    """A line in the place of Ray's page about a worker that failed."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        raise BtoksError(
            "ray", f"a worker failed ({type(error).__name__})", "see Ray's logs, then run it again"
        ) from error
