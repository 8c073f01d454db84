"""A training run as data: everything that decides what comes out, checked before any model is opened.

A recipe is a Python function `recipe()` that returns a `Recipe`: one of `training/recipes/`, or of a file of yours.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from btoks.training.data import Set

OVERRIDES = ("steps", "batch", "chunk", "lr", "seed", "save_every")
"""What the command line may change."""

_SIDES = ("positive", "query", "both", "none")
_SCHEDULES = ("linear", "cosine", "constant_with_warmup")
_POSITIVE = (
    "batch",
    "chunk",
    "block",
    "lr",
    "save_every",
    "temperature",
    "max_grad_norm",
    "longest_target",
    "max_tokens",
)
_NOT_NEGATIVE = ("warmup", "weight_decay", "weight", "workers", "tokens", "dev_rows")
_NUMBERS = (*_POSITIVE, *_NOT_NEGATIVE)
_WHOLE = ("batch", "chunk", "block", "save_every", "warmup", "workers", "tokens", "seed", "longest_target", "dev_rows")


@dataclass(frozen=True)
class Lora:
    """Adapters instead of full fine-tuning: with `dora` DoRA, else LoRA; the bottleneck rows train as well."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    dora: bool = True
    modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "out_proj",
        "down_proj",
        "qkv_proj",
        "gate_up_proj",
    )


@dataclass(frozen=True)
class Recipe:
    """One run. `batch` is the batch of all devices together, `chunk` what one device holds in memory at a time.

    `model` is a generative model or a btoks model (hub id or folder), or a function that makes one given the data
    folder; `start` is instead the name of a recipe whose result is gone on from. `steps=None` runs until the data end
    as `stop` says. `weight` is λ, for the first `weight_steps` steps. `dev` sets are searched every `dev_every` steps,
    and the best state is kept. `keep` is how many bytes of a step's first pass a device may keep beside its chunk; by
    default half of what is free. `report_to` names trackers of transformers.

    >>> Recipe("mine", sets=(), model="Qwen/Qwen3-VL-2B-Instruct").batch
    1024
    """

    name: str
    sets: tuple[Set, ...]
    model: str | Callable[[Path | None], Any] | None = None
    start: str | None = None
    data: Path | None = None
    steps: int | None = 5000
    stop: str = "all"
    batch: int = 1024
    chunk: int = 8
    keep: int | None = None
    block: int = 512
    lr: float = 5e-5
    schedule: str = "linear"
    warmup: int = 100
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 0
    weight: float = 5.0
    weight_steps: int | None = None
    mask: bool = True
    temperature: float = 0.02
    learn_temperature: bool = False
    longest_target: int = 512
    tokens: int = 4
    pooling: str = "mean"
    init: str = "eos"
    layout: str = "btoks"
    max_tokens: int = 8192
    lora: Lora | None = None
    precision: str = "bf16"
    checkpointing: bool = False
    workers: int = 2
    save_every: int = 500
    dev: tuple[Set, ...] = ()
    dev_every: int | None = None
    dev_rows: int = 200
    report_to: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where the data lie: `data`, or else $BTOKS_DATA."""
        named = self.data or os.environ.get("BTOKS_DATA")
        return Path(named) if named else None


def opened(name: str | Path, **overrides: Any) -> Recipe:
    """A shipped recipe by name, or the one in a Python file, with some fields changed, and checked.

    >>> opened("mini", steps=10).steps
    10
    """
    for key in overrides:
        if key not in OVERRIDES:
            raise BtoksError(f"override {key!r}", "there is none", did_you_mean(key, OVERRIDES))
    try:
        recipe = _function(str(name))()
    except TypeError as error:
        raise _explained(str(name), error) from error
    if not isinstance(recipe, Recipe):
        raise BtoksError(str(name), f"recipe() returned a {type(recipe).__name__}", "return a Recipe")
    recipe = dataclasses.replace(recipe, **{key: value for key, value in overrides.items() if value is not None})
    check(recipe)
    return recipe


def shipped() -> list[str]:
    """The names of the recipes that come along."""
    from btoks.training import recipes

    return sorted(each.name for each in pkgutil.iter_modules(recipes.__path__))


def check(recipe: Recipe) -> None:
    """Refuse what could only fail later; opens no model and no data."""
    for key in _NUMBERS:
        _require(isinstance(getattr(recipe, key), int | float), recipe, key, "not a number")
    for key in _WHOLE:
        _require(isinstance(getattr(recipe, key), int), recipe, key, "not a whole number")
    for key in _POSITIVE:
        _require(getattr(recipe, key) > 0, recipe, key, "not above 0")
    for key in _NOT_NEGATIVE:
        _require(getattr(recipe, key) >= 0, recipe, key, "below 0")
    for key, what in (("steps", "steps"), ("weight_steps", "steps"), ("dev_every", "steps"), ("keep", "bytes")):
        value = getattr(recipe, key)
        least = 0 if key in {"weight_steps", "keep"} else 1
        whole = isinstance(value, int) and value >= least
        _require(value is None or whole, recipe, key, f"not a number of {what}")
    _choose(recipe, "schedule", _SCHEDULES)
    _choose(recipe, "stop", ("all", "first"))
    _choose(recipe, "precision", ("bf16", "fp32"))
    _require((recipe.model is None) != (recipe.start is None), recipe, "model", "give it or start, one of the two")
    _require(
        bool(recipe.dev) == (recipe.dev_every is not None), recipe, "dev_every", "dev sets and dev_every go together"
    )
    _require(bool(recipe.sets), recipe, "sets", "there is none")
    _check_sets(recipe)


def _check_sets(recipe: Recipe) -> None:
    for group in (recipe.sets, recipe.dev):
        names = [each.name for each in group]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BtoksError(f"data set {twice[0]!r}", "its name is taken", "give every data set its own")
        for each in group:
            if not each.name or "." in each.name:
                raise BtoksError(f"data set {each.name!r}", "a name is a word without dots", "rename it")
            if each.side not in _SIDES:
                raise BtoksError(f"side {each.side!r} of {each.name}", "there is none", did_you_mean(each.side, _SIDES))
            if each.weight <= 0 or each.frames < 1:
                raise BtoksError(f"data set {each.name!r}", "weight and frames must be above 0", "raise them")


def _require(holds: bool, recipe: Recipe, key: str, reason: str) -> None:
    if not holds:
        raise BtoksError(f"{recipe.name}: {key}={getattr(recipe, key)!r}", reason, "mend the recipe")


def _choose(recipe: Recipe, key: str, known: tuple[str, ...]) -> None:
    value = getattr(recipe, key)
    if value not in known:
        raise BtoksError(f"{recipe.name}: {key}={value!r}", "there is none", did_you_mean(str(value), known))


def _function(name: str) -> Callable[[], Any]:
    if name in shipped():
        module = importlib.import_module(f"btoks.training.recipes.{name}")
    elif name.endswith(".py"):
        file = Path(name)
        if not file.is_file():
            raise BtoksError(name, "there is no such file", "pass a Python file or a shipped recipe")
        spec = importlib.util.spec_from_file_location(f"_recipe_{file.stem}", file)
        assert spec is not None  # noqa: S101  (for mypy: a .py file always has one)
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        raise BtoksError(f"recipe {name!r}", "there is none", did_you_mean(name, shipped()))
    made = getattr(module, "recipe", None)
    if not callable(made):
        raise BtoksError(name, "it has no function recipe()", "write one that returns a Recipe")
    found: Callable[[], Any] = made
    return found


def _explained(name: str, error: TypeError) -> BtoksError:
    """Python names the wrong field; what it may have meant stands in the class."""
    from btoks.training.data import Set

    kinds = {kind.__name__: kind for kind in (Recipe, Lora, Set)}
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not found or found[1] not in kinds:
        raise error
    fields = [field.name for field in dataclasses.fields(kinds[found[1]])]
    return BtoksError(f"{name}: {found[1]} field {found[2]!r}", "there is none", did_you_mean(found[2], fields))


def first(recipe: Recipe) -> Recipe:
    """The recipe at the beginning of a chain of starts: the one that makes the model.

    >>> first(Recipe("mine", sets=(), model="a")).name
    'mine'
    """
    return first(opened(recipe.start)) if recipe.start else recipe
