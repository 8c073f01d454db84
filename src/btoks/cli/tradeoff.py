"""`btoks tradeoff`: the quality of every compression of a set of vectors against its bytes."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btoks.cli.screen import Json, counter, emit, table

if TYPE_CHECKING:
    from btoks.tradeoff import Point, Tradeoff


def tradeoff(
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", help="A .npy or .parquet file, as btoks embed writes.")],
    *,
    budget: Annotated[str | None, typer.Option(help="Bytes for all vectors at most, such as 500MB or 2GB.")] = None,
    min_quality: Annotated[float, typer.Option(min=0, max=1, help="nDCG@10 to reach against the exact order.")] = 0.99,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Vectors the budget is for.", show_default="those of the file")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the result: a .png or .svg file.")] = None,
    as_json: Json = False,
) -> None:
    """Weigh quality against bytes and recommend. Example: btoks tradeoff vectors.npy --budget 2GB --plot tradeoff.png

    Quality is nDCG@10 and recall@10 of held-out vectors against the exact order. The recommendation is the smallest
    method that reaches --min-quality within the budget.
    """
    from btoks import tradeoff as measuring

    allowed = None if budget is None else measuring.amount(budget)
    if plot is not None:
        measuring.check_picture(plot)
    with counter("methods measured") as step:
        found = measuring.tradeoff(
            measuring.read(vectors), budget=allowed, min_quality=min_quality, rows=rows, done=step
        )
    if plot is not None:
        measuring.draw(found, plot)
    chosen = found.recommended
    apply = f"btoks.methods.create('quantize', {chosen.spec!r})"
    if as_json:
        emit({**dataclasses.asdict(found), "apply": apply})
        return
    _show(found)
    if not found.reached:
        typer.echo(f"No method within the budget reaches {min_quality}; the best of them is")
    typer.echo(
        f"→ {chosen.spec}: {chosen.bytes_per_vector} bytes a vector, nDCG@10 {chosen.ndcg:.4f}. In Python: {apply}"
    )


def _show(found: "Tradeoff") -> None:
    """The points by size; what is on the front is marked, what is recommended pointed at."""
    shown = sorted(found.points, key=lambda point: (point.bytes_per_vector, -point.ndcg, point.spec))
    names = ("", "method", "bytes", "× smaller", "nDCG@10", "recall@10", "total MB", "seconds")
    table(names, ([_mark(found, point), *_cells(found, point)] for point in shown))
    typer.echo("* no other method is both smaller, what it keeps once included, and as good")


def _mark(found: "Tradeoff", point: "Point") -> str:
    return "→" if point == found.recommended else "*" if point in found.front else ""


def _cells(found: "Tradeoff", point: "Point") -> list[object]:
    return [
        point.spec,
        point.bytes_per_vector,
        f"{4 * found.dim / point.bytes_per_vector:.1f}",
        f"{point.ndcg:.4f}",
        f"{point.recall:.4f}",
        f"{point.total(found.rows) / 1e6:.2f}",
        f"{point.seconds:.2f}",
    ]
