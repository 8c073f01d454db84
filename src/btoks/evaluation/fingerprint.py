"""Names for models, inputs and folders by their content: what two of them share, they may share in a cache."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from btoks.bottleneck import record
from btoks.media import Source

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_WRITTEN = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_PADDING = (
    *("padding", "truncation", "padding_side", "truncation_side", "truncation_strategy"),
    *("pad_token_type_id", "pad_to_multiple_of", "max_length", "stride"),
)
_LIBRARIES = ("btoks", "torch", "transformers", "sentence-transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """The versions of what computes an embedding."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def model_key(model: SentenceTransformer) -> str:
    """The content of a model: weights (adapters included), configuration, record, processor and its settings."""
    import torch

    body: Any = model[0].model
    settings = [_settled(body.config.to_dict()), body.config._attn_implementation, record(model), model.truncate_dim]
    digest = _Digest().add(json.dumps([*settings, str(model.dtype)], sort_keys=True, default=str))
    for module in model:
        made: Any = getattr(module, "get_config_dict", dict)()
        digest.add(f"{type(module).__module__}.{type(module).__name__}").add(
            json.dumps(made, sort_keys=True, default=str)
        )
        for name, tensor in sorted(module.state_dict().items()):
            digest.add(f"{name} {tuple(tensor.shape)} {tensor.dtype}")
            digest.add(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.add(_processor_key(model[0].processor)).name()


def hooked(model: SentenceTransformer) -> bool:
    """Whether something is installed on the model that its content does not show, such as a method in use."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def inputs_key(items: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The content of (prompt, item) pairs, media read from wherever they lie."""
    digest = _Digest()
    for prompt, item in items:
        digest.add(f"prompt {prompt}")
        for kind, value in sorted(item.items()):
            digest.add(kind)
            digest.add(f"text {value}" if kind == "text" else media_key(value))
    return digest.name()


def media_key(value: Any) -> str:
    """The content of anything that `media.load` opens; a file that is not there has a name too."""
    digest = _Digest()
    if isinstance(value, Source):
        digest.add(f"source {value.page} {value.start} {value.end}")
        value = value.uri
    if isinstance(value, str | Path):
        return digest.add(_file_key(Path(value))).name() if _is_local(value) else digest.add(f"url {value}").name()
    if isinstance(value, Image.Image):
        return digest.add(f"image {value.mode} {value.size}").add(value.tobytes()).name()
    if isinstance(value, np.ndarray):
        return digest.add(f"array {value.dtype} {value.shape}").add(np.ascontiguousarray(value)).name()
    if isinstance(value, Mapping):
        for key, each in sorted(value.items()):
            digest.add(key).add(media_key(each))
        return digest.name()
    if isinstance(value, list | tuple):
        for each in value:
            digest.add(media_key(each))
        return digest.add(f"list {len(value)}").name()
    return digest.add(value if isinstance(value, bytes) else repr(value)).name()


def folder_key(folder: Path) -> str:
    """The content of a folder: every file's path and bytes.

    >>> len(folder_key(Path("/nowhere")))
    16
    """
    digest = _Digest()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.add(path.relative_to(folder).as_posix()).add(_file_key(path))
    return digest.name()


def _settled(config: Any) -> Any:
    """A configuration without what saving and loading write into it: by whom, from where, in which precision."""
    if not isinstance(config, dict):
        return config
    return {key: _settled(value) for key, value in config.items() if key not in _WRITTEN}


def _processor_key(processor: Any) -> str:
    """The content of a processor; how the last batch happened to be padded is no part of it."""
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            file = Path(folder) / name
            if file.is_file():
                held = json.loads(file.read_text(encoding="utf-8"))
                file.write_text(json.dumps({key: value for key, value in held.items() if key not in _PADDING}))
        return folder_key(Path(folder))


def _is_local(value: str | Path) -> bool:
    return isinstance(value, Path) or ("://" not in value[:16] and value[:5].lower() != "data:")


def _file_key(path: Path) -> str:
    try:
        status = path.stat()
        return _content_key(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return "missing"


@functools.lru_cache(maxsize=1 << 16)
def _content_key(path: Path, size: int, changed: int) -> str:
    """A file is read once a process, unless it has changed."""
    del size, changed
    with path.open("rb") as file:
        return hashlib.file_digest(file, _hash).hexdigest()


def _hash() -> Any:
    return hashlib.blake2b(digest_size=16)


class _Digest:
    """A hash of parts that cannot run into each other."""

    def __init__(self) -> None:
        self.hash = _hash()

    def add(self, part: str | bytes | np.ndarray[Any, Any]) -> _Digest:
        data = part.encode() if isinstance(part, str) else part if isinstance(part, bytes) else part.tobytes()
        self.hash.update(f"{len(data)}:".encode())
        self.hash.update(data)
        return self

    def name(self) -> str:
        return str(self.hash.hexdigest()[:16])
