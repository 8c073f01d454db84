"""`btoks demo`: the bundled sample, embedded and searched."""

import typer

from btoks.cli.screen import Json, quiet


def demo(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Embed the bundled sample and search it, offline. Example: btoks demo"""
    quiet(ctx)
    from btoks.demo import run

    run(json=as_json)
