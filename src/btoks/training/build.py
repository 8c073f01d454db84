"""The model that a recipe trains: made or opened, with its adapters, and what of it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from btoks import methods, prompts
from btoks.bottleneck import assemble, attach, finish, generator, pooler_of, record, start_rows, transformer
from btoks.errors import BtoksError
from btoks.folder import load
from btoks.training.patches import multiply

if TYPE_CHECKING:
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from btoks.training.recipe import Lora, Recipe


def build(recipe: Recipe, start: Path | None = None) -> SentenceTransformer:
    """The model ready to train, the same for the same seed; `start` is the folder that the recipe goes on from."""
    from transformers import set_seed

    set_seed(recipe.seed)
    model = started(load(start, device="cpu"), recipe) if start else _made(recipe)
    # Full fine-tuning keeps its weights in fp32: steps of this size vanish in bf16.
    model.to(torch.bfloat16 if recipe.lora and recipe.precision == "bf16" else torch.float32)
    finish(model)
    multiply(model)
    if recipe.lora:
        add_lora(model, recipe.lora)
    if recipe.checkpointing:
        body: Any = model[0].model
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def add_lora(model: SentenceTransformer, lora: Lora) -> None:
    """Adapters on the named modules, trainable rows for the bottleneck tokens, the pooling; the rest is frozen."""
    from peft import LoraConfig

    backbone: Any = model[0]
    tokens = [prompts.token_name(place) for place in range(int(record(model)["tokens"]))]
    rows = {_embedding_name(backbone.model): model.tokenizer.convert_tokens_to_ids(tokens)} if tokens else None
    names = {name.rpartition(".")[2] for name, _ in backbone.model.named_modules()}
    modules = sorted(names & set(lora.modules))
    if not modules:
        raise BtoksError("lora", f"the model has none of {', '.join(lora.modules)}", "name its linear layers")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=modules,
        trainable_token_indices=rows,
    )
    model.add_adapter(config)
    poolers = [weight for module in list(model)[1:] for weight in module.parameters()]
    adapted = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    trained = {id(weight) for weight in (*adapted, *poolers) if weight.requires_grad}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) in trained)
        if id(weight) in trained:
            weight.data = weight.data.float()


def _embedding_name(body: Any) -> str:
    table = body.get_input_embeddings()
    path: str = next(name for name, module in body.named_modules() if module is table)
    return path.rpartition(".")[2]


def started(model: SentenceTransformer, recipe: Recipe) -> SentenceTransformer:
    """The start's model, or its language model with other bottleneck tokens where the recipe wants them."""
    notes, pooler = record(model), pooler_of(recipe.tokens, recipe.pooling)
    if (notes["tokens"], methods.create("pooling", notes["pooling"])) == (recipe.tokens, pooler):
        return model
    if recipe.tokens > notes["tokens"]:
        reason = f"{recipe.start} has {notes['tokens']} bottleneck tokens"
        raise BtoksError(f"{recipe.name}: tokens={recipe.tokens}", reason, "ask for no more, or give the start as many")
    full, processor = generator(model), transformer(model).processor
    tokenizer = prompts.tokenizer_of(processor)
    rows = tokenizer.convert_tokens_to_ids([prompts.token_name(place) for place in range(recipe.tokens)])
    start_rows(full, rows, tokenizer.eos_token_id, recipe.init)
    kept = {key: notes[key] for key in ("prefix", "suffix", "backbone")}
    shape: Any = {key: getattr(recipe, key) for key in ("tokens", "layout", "max_tokens")}
    return assemble(full, processor, pooling=pooler, **shape, **kept)


def _made(recipe: Recipe) -> SentenceTransformer:
    made = recipe.model
    if callable(made):
        made = made(recipe.folder)
    settings = {key: getattr(recipe, key) for key in ("tokens", "pooling", "init", "layout", "max_tokens")}
    if hasattr(made, "preprocess"):
        return made  # type: ignore[return-value]
    if isinstance(made, tuple):
        return attach(made, **settings)
    return load(str(made), device="cpu") if _is_btoks(str(made)) else attach(str(made), **settings)


def _is_btoks(name: str) -> bool:
    from transformers import AutoConfig

    try:
        return hasattr(AutoConfig.from_pretrained(name), "btoks")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BtoksError(name, reason, "pass a hub id or a model folder") from error
