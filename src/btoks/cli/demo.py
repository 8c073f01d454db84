"""`btoks demo`: the bundled sample, embedded and searched."""

import typer

from btoks.cli.screen import Json, quiet


def demo(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Embed the bundled sample and search it, offline. Example: btoks demo

    The first run trains and caches a small model, in about three minutes.
    """
    quiet(ctx)
    from btoks.demo import run

    run(json=as_json)
