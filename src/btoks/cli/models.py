"""`btoks attach`, `convert`, `info` and `doctor`: models made and looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from btoks.cli.screen import MODEL, Device, Json, emit, opened, quiet, table
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.doctor import Finding

Folder = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")]


def info(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model folder or a hub id.")],
    *,
    as_json: Json = False,
) -> None:
    """Show what a model is and what its vectors cost. Example: btoks info btoks-mini"""
    facts = _facts(model, opened(ctx, model, "cpu"))
    if as_json:
        emit(facts)
    else:
        table(("", ""), ((key.replace("_", " "), _shown(value)) for key, value in facts.items()))


def attach(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A generative model: a folder or a hub id.")],
    out: Folder,
    *,
    tokens: Annotated[int, typer.Option(min=0, help="Bottleneck tokens; 0 is last-token pooling.")] = 4,
    pooling: Annotated[str, typer.Option(help="See `btoks methods --family pooling`.")] = "mean",
    init: Annotated[str, typer.Option(help="Start of the new rows: eos, mean, random, keep.")] = "eos",
    as_json: Json = False,
) -> None:
    """Attach untrained bottleneck tokens to a model. Example: btoks attach Qwen/Qwen3-VL-2B-Instruct my-model"""
    quiet(ctx)
    import btoks

    btoks.save(btoks.attach(model, tokens=tokens, pooling=pooling, init=init), out)
    _written(out, as_json=as_json)


def convert(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="Another project's checkpoint: a folder or a hub id.")],
    out: Folder,
    *,
    tokens: Annotated[int | None, typer.Option(min=0, help="Bottleneck tokens to add to a last-token model.")] = None,
    layout: Annotated[str | None, typer.Option(help="Prompt layout: btoks, vlm2vec, chat.")] = None,
    base: Annotated[str | None, typer.Option(help="The model that an adapter stands on.")] = None,
    as_json: Json = False,
) -> None:
    """Turn another project's checkpoint into ours. Example: btoks convert VLM2Vec/VLM2Vec-V2.0 my-model"""
    quiet(ctx)
    from btoks.convert import convert as converted

    converted(source, out, tokens=tokens, layout=layout, base=base)
    _written(out, as_json=as_json)


def doctor(
    ctx: typer.Context,
    place: Annotated[str, typer.Argument(metavar="FOLDER|URL", help="A model folder, or a server of embeddings.")],
    *,
    model: Annotated[
        str | None, typer.Option(help="The folder whose probes a server is asked for.", show_default=MODEL)
    ] = None,
    served: Annotated[str, typer.Option(help="What the model is called there.")] = "",
    token: Annotated[str | None, typer.Option(envvar="BTOKS_TOKEN", help="The server's token.")] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Check that a folder or a server gives the vectors its author saw. Example: btoks doctor my-model

    The exit status is 1 if any probe disagrees.
    """
    quiet(ctx)
    from btoks.doctor import check, check_server

    if "://" in place:
        findings = check_server(place, model or MODEL, served=served, token=token)
    elif model is not None:
        raise BtoksError("--model", "a folder has its own probes", "leave it out, or give a URL")
    else:
        findings = check(place, device=device)
    if as_json:
        for each in findings:
            emit(vars(each))
    else:
        table(("probe", "cosine", "largest difference", "agrees"), map(_found, findings))
    if not all(each.agrees for each in findings):
        raise typer.Exit(1)


def _found(finding: "Finding") -> tuple[str, str, str, str]:
    if finding.cosine is None or finding.difference is None:
        return finding.probe, "", "", finding.reason or "no"
    return finding.probe, f"{finding.cosine:.6f}", f"{finding.difference:.1e}", _shown(finding.agrees)


def _facts(name: str, model: "SentenceTransformer") -> dict[str, Any]:
    from btoks.bottleneck import generator, record

    notes, dim = record(model), int(model.get_embedding_dimension() or 0)
    return {
        "model": name,
        "tokens": notes["tokens"],
        "pooling": notes["pooling"]["name"],
        "layout": notes["layout"],
        "backbone": notes["backbone"],
        "parameters": sum(each.numel() for each in generator(model).parameters()),
        "dim": dim,
        "modalities": [each for each in model.modalities if isinstance(each, str) and each != "message"],
        "max_tokens": notes["max_tokens"],
        "dtype": str(model.dtype).removeprefix("torch."),
        "bytes_per_vector": 4 * dim,
        "bytes_per_memory": _memory_bytes(model),
    }


def _memory_bytes(model: "SentenceTransformer") -> int | None:
    """What the memory of one item takes; None where the model has none that can be read."""
    from btoks.condensation import memory

    try:
        return memory(model, model.preprocess([{"text": "a"}]))[1].nbytes
    except BtoksError:
        return None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(value) if isinstance(value, list) else "none" if value is None else str(value)


def _written(out: Path, *, as_json: bool) -> None:
    if as_json:
        emit({"out": str(out)})
    else:
        typer.echo(f"{out} written; look at it with `btoks info {out}`")
