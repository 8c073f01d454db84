"""`btoks tradeoff`: the quality of every compression of a set of vectors against its bytes."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.screen import Json, counter, emit, table
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from btoks.tradeoff import Point, Tradeoff

Of = Annotated[Path, typer.Argument(metavar="LIBRARY|VECTORS", help="A library, or .npy or .parquet as embed writes.")]
Budget = Annotated[str | None, typer.Option(help="Bytes for all vectors at most, such as 500MB or 2GB.")]
MinQuality = Annotated[float, typer.Option(min=0, max=1, help="The quality to reach.")]
Rows = Annotated[
    int | None, typer.Option(min=1, help="Vectors the budget is for.", show_default="those of LIBRARY|VECTORS")
]
Queries = Annotated[
    Path | None, typer.Option(help="What asks: .npy or .parquet as embed writes.", show_default="held-out vectors")
]
LabelFile = Annotated[Path | None, typer.Option(help='JSON lines {"query": id, "relevant": [ids] or {id: gain}}.')]


def tradeoff(
    vectors: Of,
    *,
    budget: Budget = None,
    min_quality: MinQuality = 0.99,
    rows: Rows = None,
    queries: Queries = None,
    labels: LabelFile = None,
    slow: Annotated[bool, typer.Option("--slow", help="Also kernel PCA, autoencoders and UMAP: minutes.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw the result: a .png or .svg file.")] = None,
    as_json: Json = False,
) -> None:
    """Weigh quality against bytes and recommend. Example: btoks tradeoff vectors.npy --budget 2GB --plot tradeoff.png

    Quality is nDCG@10 against the exact order; with --queries and --labels it is the share of the task's own nDCG@10
    that is kept. The recommendation is the smallest method that reaches --min-quality within the budget.
    """
    from btoks import tradeoff as measuring

    allowed = None if budget is None else measuring.amount(budget)
    if plot is not None:
        measuring.check_picture(plot)
    if labels is not None and queries is None:
        raise BtoksError("--labels", "there are no queries that they are for", "give --queries as well")
    relevant = None if labels is None else measuring.labels(labels)
    asked = None if queries is None else measuring.read(queries)
    stored = measuring.read(vectors, sorted(set().union(*relevant.values())) if relevant else ())
    options: dict[str, Any] = {"budget": allowed, "min_quality": min_quality, "rows": rows, "slow": slow}
    with counter("methods measured") as step:
        found = measuring.tradeoff(stored, queries=asked, labels=relevant, done=step, **options)
    if plot is not None:
        measuring.draw(found, plot, min_quality=min_quality, budget=allowed)
    apply = _applied(vectors, found.recommended.spec, library=measuring.is_library(vectors))
    if as_json:
        emit({**dataclasses.asdict(found), "apply": apply})
        return
    _show(found)
    if not found.reached:
        typer.echo(f"No method within the budget reaches {min_quality}; the best of them is")
    typer.echo(f"→ {_told(found.recommended)}. Apply it: {apply}")


def _applied(path: Path, spec: str, *, library: bool) -> str:
    """The command, or for bare vectors the line of Python, that compresses by this method."""
    if library:
        return f"btoks reindex {shlex.quote(str(path))} --quantize {shlex.quote(spec)}"
    return f'from btoks import methods; method = methods.create("quantize", "{spec}").fit(vectors)'


def _told(point: "Point") -> str:
    task = "" if point.kept is None else f", {point.kept:.2%} of the task's score"
    return f"{point.spec}: {point.bytes_per_vector} bytes a vector, nDCG@10 {point.ndcg:.4f}{task}"


def _show(found: "Tradeoff") -> None:
    """The points by size; what is on the front is marked, what is recommended pointed at."""
    shown = sorted(found.points, key=lambda point: (point.bytes_per_vector, -point.quality, point.spec))
    task = ("task", "kept") if found.recommended.kept is not None else ()
    names = ("", "method", "bytes", "× smaller", "nDCG@10", "recall@10", *task, "total MB", "seconds")
    table(names, ([_mark(found, point), *_cells(found, point)] for point in shown))
    typer.echo("* no other method is both smaller, what it keeps once included, and as good")


def _mark(found: "Tradeoff", point: "Point") -> str:
    return "→" if point == found.recommended else "*" if point in found.front else ""


def _cells(found: "Tradeoff", point: "Point") -> list[object]:
    task = () if point.task is None or point.kept is None else (f"{point.task:.4f}", f"{point.kept:.4f}")
    return [
        point.spec,
        point.bytes_per_vector,
        f"{4 * found.dim / point.bytes_per_vector:.1f}",
        f"{point.ndcg:.4f}",
        f"{point.recall:.4f}",
        *task,
        f"{point.total(found.rows) / 1e6:.2f}",
        f"{point.seconds:.2f}",
    ]
