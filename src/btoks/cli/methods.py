"""`btoks methods`: what there is to choose from, told by the methods' own cards."""

from typing import Annotated

import typer

from btoks.cli.screen import Json, emit, table


def methods(
    *,
    family: Annotated[str | None, typer.Option(help="Only this family, such as pooling.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods. Example: btoks methods --family pooling"""
    from btoks.methods import cards

    found = [card.as_dict() for card in cards(family)]
    if as_json:
        for each in found:
            emit(each)
        return
    marks = (("trained", "trained"), ("query_aware", "needs the query"))
    cost = ("cost",) if any(each["cost"] for each in found) else ()
    shown = ("family", "name", "system", "title", "paper", "stage", *cost)
    notes = (", ".join(mark for key, mark in marks if each[key]) for each in found)
    table((*shown, "notes"), ((*(each[key] for key in shown), note) for each, note in zip(found, notes, strict=True)))
