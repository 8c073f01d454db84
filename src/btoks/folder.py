"""A model folder: written whole, opened safely.

One folder is three things: the full generative model (transformers), a `SentenceTransformer`, and a model that other
engines open. A trained adapter that is not merged stands beside its base: `adapter_*` at the root, the base in `base/`.
"""

from __future__ import annotations

import copy
import ctypes
import glob
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import nn

from btoks.bottleneck import Backbone, finish, generator, transformer
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from torch import Tensor

_TRUSTED = ("sentence_transformers.", "btoks.")
_TRANSFORMER = f"{Transformer.__module__}.{Transformer.__name__}"


def load(path: str | Path, *, device: str | None = None, **options: Any) -> SentenceTransformer:
    """Open a btoks model: a folder, a hub id, an adapter beside its base, or another project's checkpoint.

    Only classes of sentence-transformers and btoks are run, never code from the folder. A foreign checkpoint is
    converted once, into the cache. Further options go to `SentenceTransformer`.

    >>> model = load("path/to/model")  # doctest: +SKIP
    """
    from btoks import convert

    if not Path(path).exists():
        _tidy(Path(path))
    folder = convert.native(path)
    if (folder / "adapter_config.json").is_file():
        model = load(folder / "base", device=device, **options)
        apply_adapter(model, folder)
        return finish(model)
    classes: dict[str, type[nn.Module]] = {_TRANSFORMER: Backbone}
    for entry in _read_json(folder / "modules.json"):
        classes.setdefault(entry["type"], _trusted(folder, entry["type"]))
    try:
        model = SentenceTransformer._load_with_module_classes(str(folder), classes, device=device, **options)
    except (OSError, ValueError, SafetensorError) as error:
        reason = f"it cannot be opened ({str(error).strip().partition(chr(10))[0]})"
        raise BtoksError(str(folder), reason, "write it again with btoks.save") from error
    if type(transformer(model)) is Backbone:
        transformer(model).stock()
    return finish(model)


def save(model: SentenceTransformer, path: str | Path, *, merge: bool = True) -> None:
    """Write the model as one folder, whole or not at all; an existing model is replaced.

    With `merge` a trained adapter becomes part of the weights (the model in memory keeps it apart). Without, the
    adapter's files stand at the root and the base they belong to in `base/`.

    >>> save(model, "path/to/model")  # doctest: +SKIP
    """
    from btoks import convert, doctor

    path = Path(path).resolve()
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and convert.recognise(path) != "btoks")):
        raise BtoksError(str(path), "it exists and is not a btoks model", "choose another folder")
    adapted = _adapters(generator(model))
    if len(adapted) > 1 and not merge:
        raise BtoksError("adapter", f"the model has {len(adapted)} of them", "merge them, or keep one")
    with replacing(path) as part:
        if adapted and not merge:
            _write(model, part / "base", _without_adapter(generator(model)))
            _write_adapter(model, part, adapted)
            for name in ("README.md", doctor.PROBES):  # they tell of the model with its adapter
                (part / "base" / name).rename(part / name)
        else:
            _write(model, part, merged(generator(model)) if adapted else generator(model))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `path` only when it is whole.

    >>> with replacing(Path("out")) as part:  # doctest: +SKIP
    ...     (part / "file").write_text("all of it")
    """
    _tidy(path)
    part, old = (path.with_name(f".{path.name}.{what}-{os.getpid()}") for what in ("part", "old"))
    part.mkdir(parents=True)
    try:
        yield part
        if not path.exists():
            part.rename(path)
        elif not _exchanged(part, path):
            path.rename(old)
            part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _tidy(path)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step, where system and disk can: there is no moment without either."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2
    return swap is not None and swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _tidy(path: Path) -> None:
    """Clear what this process or killed ones left; where one died between two renames, the old folder comes back."""
    for rest in sorted(path.parent.glob(f".{glob.escape(path.name)}.*-*")):
        what, _, process = rest.name.rpartition(".")[2].partition("-")
        if what not in ("part", "old") or not process.isdigit() or _another_runs(int(process)):
            continue
        if what == "old" and not path.exists():
            rest.rename(path)
        else:
            shutil.rmtree(rest, ignore_errors=True)


def _another_runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return process != os.getpid()


def apply_adapter(model: SentenceTransformer, folder: Path) -> None:
    """Put a saved LoRA or DoRA adapter on a model; refuses one whose keys do not all match."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise BtoksError(str(folder), "no adapter_model.safetensors", "save the adapter as safetensors")
    with safe_open(file, "pt") as stored:
        want = set(stored.keys())
    body = transformer(model).model
    wrapped = PeftModel.from_pretrained(body, str(folder))
    have = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if want != have:
        odd = sorted(want ^ have)
        raise BtoksError(
            str(folder),
            f"{len(odd)} adapter keys do not match the model, such as {odd[0]}",
            "use the adapter's own base",
        )
    body._hf_peft_config_loaded = False
    body.peft_config = wrapped.peft_config


def merged(full: nn.Module) -> nn.Module:
    """A copy of a model with its adapters folded into the weights."""
    return _peeled(copy.deepcopy(full), lambda layer: layer.merge(safe_merge=True))


def _without_adapter(full: nn.Module) -> nn.Module:
    return _peeled(copy.deepcopy(full), lambda _: None)


def _peeled(full: nn.Module, first: Callable[[Any], object]) -> nn.Module:
    """The model with every adapter layer replaced by what it wraps, after `first` was done to the layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, layer in list(full.named_modules()):
        parent, _, last = name.rpartition(".")
        if isinstance(layer, AuxiliaryTrainingWrapper):
            first(layer.token_adapter if hasattr(layer, "token_adapter") else layer)
            inner = layer.token_adapter if hasattr(layer, "token_adapter") else layer
            setattr(full.get_submodule(parent), last, inner.get_base_layer())
        elif isinstance(layer, BaseTunerLayer) and not name.endswith(".token_adapter"):
            first(layer)
            setattr(full.get_submodule(parent), last, layer.get_base_layer())
    for part in full.modules():
        part.__dict__.pop("peft_config", None)
        part.__dict__.pop("_hf_peft_config_loaded", None)
    return full


def _adapters(full: nn.Module) -> Mapping[str, Any]:
    body = full.base_model
    found: Mapping[str, Any] = getattr(body, "peft_config", None) or {}
    return found


def _write(model: SentenceTransformer, folder: Path, full: nn.Module) -> None:
    """The stock way of saving, with the generative model where the module holds its body."""
    from btoks import card, doctor

    module = transformer(model)
    body = module.model
    module.model = full
    try:
        model.save_pretrained(str(folder), create_model_card=False)
    finally:
        module.model = body
    doctor.write_probes(model, folder)
    card.write(model, folder)


def _write_adapter(model: SentenceTransformer, folder: Path, adapted: Mapping[str, Any]) -> None:
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    ((name, config),) = adapted.items()
    tensors: dict[str, Tensor] = get_peft_model_state_dict(
        transformer(model).model, adapter_name=name, save_embedding_layers=False
    )
    kept = {f"base_model.model.{key}": value.detach().cpu().contiguous() for key, value in tensors.items()}
    save_file(kept, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy.copy(config)
    config.base_model_name_or_path, config.inference_mode = "base", True
    config.save_pretrained(str(folder))


def _trusted(folder: Path, name: str) -> type[nn.Module]:
    if not name.startswith(_TRUSTED):
        raise BtoksError(
            str(folder), f"its module {name} is foreign code", "open it with SentenceTransformer if you trust it"
        )
    module, _, cls = name.rpartition(".")
    found = getattr(importlib.import_module(module), cls, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise BtoksError(str(folder), f"its module {name} is unknown", "update btoks, or choose another model")
    return found


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BtoksError(str(file.parent), f"no readable {file.name}", "pass a folder written by btoks.save") from error
