"""Other projects' checkpoints become btoks models; `native` is the one door through which every model is opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import btoks
from btoks import bundled
from btoks.errors import BtoksError, did_you_mean
from btoks.prompts import LAYOUTS

if TYPE_CHECKING:
    from btoks.foreign import Opened

Kind = Literal["btoks", "authors", "adapter", "last-token"]
BUNDLED = "btoks-mini"
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.md"]
_FRAME_PIXELS = 28 * 28 * 1280  # what VLM2Vec-V2 is run with
_CHAT_TOKENS, _CHAT_VIDEO_PIXELS = 1800, 7_864_320  # what Qwen3-VL-Embedding is run with


def cache_dir() -> Path:
    """Where converted and trained models are kept: `$BTOKS_CACHE`, or `~/.cache/btoks`."""
    return Path(os.environ.get("BTOKS_CACHE") or Path("~/.cache/btoks")).expanduser()


def native(path: str | Path) -> Path:
    """The folder of a btoks model: the one given, a hub model's, or a foreign checkpoint's, converted once.

    >>> native("path/to/model")  # doctest: +SKIP
    PosixPath('path/to/model')
    """
    if str(path) == BUNDLED:
        return bundled.model()
    folder = located(path)
    kind = recognise(folder)
    if kind == "btoks":
        return folder
    if kind is None:
        raise _unknown(folder)
    return _cached(folder)


def recognise(folder: str | Path) -> Kind | None:
    """What kind of model folder it is; None where it is none that embeds."""
    folder = Path(folder)
    if (folder / "adapter_config.json").is_file():
        return "btoks" if (folder / "base" / "modules.json").is_file() else "adapter"
    if not (folder / "config.json").is_file():
        return None
    config = read_json(folder / "config.json")
    if config.get("model_type") == "btoks" and isinstance(config.get("modules"), dict):
        return "authors"
    if isinstance(config.get("btoks"), dict) and (folder / "modules.json").is_file():
        return "btoks"
    return "last-token" if _layout_of(folder) else None


def convert(
    source: str | Path,
    out: str | Path,
    *,
    tokens: int | None = None,
    layout: str | None = None,
    base: str | Path | None = None,
) -> Path:
    """Write another project's checkpoint as a btoks model to `out`.

    A checkpoint of the authors keeps its own tokens and layout. Any other is a last-token embedding model: a folder
    of transformers, or an adapter (over `base`, if not over the one it names); `tokens` above 0 adds untrained ones.
    """
    if layout not in (None, *LAYOUTS):
        raise BtoksError(f"layout {layout!r}", "there is none", did_you_mean(str(layout), LAYOUTS))
    folder, out = located(source), Path(out)
    kind = recognise(folder)
    if kind == "btoks":
        raise BtoksError(str(source), "it is a btoks model already", "open it with btoks.load")
    if kind is None and (tokens is None or not (folder / "config.json").is_file()):
        raise _unknown(folder)
    if base is not None and kind != "adapter":
        raise BtoksError(str(source), "not an adapter, so it has no base", "leave base out")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and recognise(out) != "btoks")):
        raise BtoksError(str(out), "it exists and is not a btoks model", "choose another folder")
    if kind == "authors":
        return _write_authors(folder, out, tokens, layout)
    return _write_last_token(folder, out, tokens or 0, layout, _base_of(folder, base) if kind == "adapter" else None)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model's folder."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BtoksError(str(file.parent), f"no readable {file.name}", "pass the whole folder of a model") from error
    if not isinstance(found, dict):
        raise BtoksError(str(file), "not a JSON object", "pass the whole folder of a model")
    return found


def first_line(error: Exception) -> str:
    """What another library's error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _write_authors(folder: Path, out: Path, tokens: int | None, layout: str | None) -> Path:
    from btoks import foreign

    opened = foreign.authors(folder)
    if tokens not in (None, opened.tokens):
        raise BtoksError(str(folder), f"it was trained with {opened.tokens} tokens", "leave tokens out")
    if layout not in (None, "btoks"):
        raise BtoksError(str(folder), "it was trained with the layout 'btoks'", "leave layout out")
    return _write(folder, out, opened, "btoks", start="tokens")


def _write_last_token(folder: Path, out: Path, tokens: int, layout: str | None, base: Path | None) -> Path:
    from btoks import foreign, prompts
    from btoks.bottleneck import add_tokens, limit_pixels

    opened = foreign.adapted(folder, base) if base else foreign.plain(folder)
    if tokens and not opened.head:
        reason = "without a language-model head new tokens cannot be trained to be read"
        raise BtoksError(str(folder), reason, "convert it with tokens=0")
    layout = layout or _layout_of(folder) or (_layout_of(base) if base else None) or ("btoks" if tokens else "vlm2vec")
    if layout == "chat":
        limit_pixels(opened.processor, _CHAT_TOKENS)
        foreign.limit_video(opened.processor, _CHAT_VIDEO_PIXELS, each_frame=False)
    else:
        limit_pixels(opened.processor)
        foreign.limit_video(opened.processor, _FRAME_PIXELS, each_frame=True)
    add_tokens(opened.full, prompts.tokenizer_of(opened.processor), tokens)
    return _write(folder, out, foreign.Opened(opened.full, opened.processor, tokens), layout)


def _write(folder: Path, out: Path, opened: Opened, layout: str, **notes: Any) -> Path:
    from btoks import methods
    from btoks.bottleneck import assemble
    from btoks.folder import save

    name = _name_of(folder)
    opened.full.config._name_or_path = getattr(opened.full.config, "_name_or_path", "") or name
    if not opened.head:
        notes["head"] = False
    pooling = methods.create("pooling", "mean" if opened.tokens else "last")
    notes["data"] = [f"Converted from the checkpoint {name}."]
    save(assemble(opened.full, opened.processor, tokens=opened.tokens, pooling=pooling, layout=layout, **notes), out)
    return out


def _cached(folder: Path) -> Path:
    """The conversion of a foreign checkpoint, made by whoever comes first while others wait."""
    from filelock import FileLock

    home = cache_dir() / "converted"
    home.mkdir(parents=True, exist_ok=True)
    out = home / f"{_slug(_name_of(folder))}-{_key(folder)}"
    with FileLock(f"{out}.lock"):
        if not out.is_dir():
            for rest in home.glob(f".{out.name}.*"):
                shutil.rmtree(rest, ignore_errors=True)  # of a run that was killed
            convert(folder, out)
    return out


def _key(folder: Path) -> str:
    """A hash of what a conversion depends on: file names, sizes and times, settings, this version."""
    digest = hashlib.sha256(btoks.__version__.encode())
    for file in sorted(each for each in folder.iterdir() if each.is_file()):
        facts = file.stat()
        digest.update(f"{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        if file.name.endswith("config.json"):
            digest.update(file.read_bytes())
    if (folder / "adapter_config.json").is_file():
        base = _local_base(folder)
        digest.update(_key(base).encode() if base else b"")
    return digest.hexdigest()[:16]


def located(path: str | Path) -> Path:
    """The local folder of a path or of a hub id."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise BtoksError(str(path), "a file, not a model folder", "pass the folder it lies in")
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", str(path)):
        return _fetched(str(path))
    raise BtoksError(str(path), "no such folder", "pass a model folder or a hub id such as Qwen/Qwen3-VL-2B-Instruct")


def _fetched(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (OSError, ValueError, HfHubHTTPError) as error:
        if constants.HF_HUB_OFFLINE:
            reason = "no such folder, not in the hub's cache, and HF_HUB_OFFLINE forbids fetching it"
            raise BtoksError(name, reason, "unset HF_HUB_OFFLINE once, or pass a folder") from error
        reason = f"no such folder, and the hub did not give it ({first_line(error)})"
        raise BtoksError(name, reason, "check the name, or pass a folder") from error


def _base_of(folder: Path, base: str | Path | None) -> Path:
    """The model an adapter stands on."""
    if base is not None:
        found = located(base)
    else:
        name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        if not name:
            raise BtoksError(str(folder), "the adapter does not name its base", "pass base=")
        found = _local_base(folder) or located(name)
    if recognise(found) not in (None, "last-token"):
        raise BtoksError(str(found), "not a plain model an adapter could stand on", "pass base=")
    return found


def _local_base(folder: Path) -> Path | None:
    """The base an adapter names, if it is a folder: seen from the adapter's, or from here."""
    name = str(read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "")
    places = (folder / name, Path(name).expanduser()) if name else ()
    return next((place for place in places if (place / "config.json").is_file()), None)


def _layout_of(folder: Path) -> str | None:
    """The layout of a last-token embedding checkpoint, as far as its folder tells; None where nothing tells."""
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    readme = folder / "README.md"
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines() if readme.is_file() else []
    title = next((line for line in lines if line.startswith("# ")), "")
    said = " ".join([_name_of(folder), title, str(config.get("_name_or_path", ""))]).lower()
    if "vlm2vec" in said:
        return "vlm2vec"
    embeds = any("embedding" in each.lower() for each in config.get("architectures") or ())
    if "vision_config" in config and ("qwen3-vl-embedding" in said or embeds or _pools_last(folder)):
        return "chat"
    return None


def _pools_last(folder: Path) -> bool:
    """Whether a sentence-transformers folder pools the last token."""
    found = [read_json(file) for file in folder.glob("*_Pooling/config.json")]
    return any(each.get("pooling_mode_lasttoken") or each.get("pooling_mode") == "lasttoken" for each in found)


def _unknown(folder: Path) -> BtoksError:
    if not (folder / "config.json").is_file():
        return BtoksError(str(folder), "no config.json and no adapter_config.json in it", "pass the folder of a model")
    way_out = "attach tokens first with btoks.attach, or convert with `btoks convert --tokens 0`"
    return BtoksError(str(folder), "a model without bottleneck tokens, and nothing says it embeds", way_out)


def _name_of(folder: Path) -> str:
    """A hub id for a folder of the hub's cache, else the folder's own name."""
    held = [each for each in folder.parts if each.startswith("models--")]
    return held[-1].removeprefix("models--").replace("--", "/") if held else folder.resolve().name


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "--", name)
