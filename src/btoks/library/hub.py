"""Datasets of the Hugging Face hub as paths: `hf://org/name`, or one split of it, `hf://org/name:train`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from btoks.errors import BtoksError, did_you_mean

_SCHEME = "hf://"


def located(path: str) -> list[str]:
    """The files or folders of a dataset on this machine, fetched if need be; any other path as it is.

    A folder may stand in the place of a hub id, in the hub's layout or as `save_to_disk` writes it.

    >>> located("photos")
    ['photos']
    """
    if not path.startswith(_SCHEME):
        return [path]
    name, _, split = path.removeprefix(_SCHEME).partition(":")
    folder = Path(name) if Path(name).is_dir() else _fetched(path, name)
    return [str(folder)] if not split else _of_split(path, folder, split)


def _fetched(path: str, name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = f"the hub did not give it ({str(error).strip().partition(chr(10))[0]})"
        raise BtoksError(path, reason, "check the name and the connection, or index a folder") from error


def _of_split(path: str, folder: Path, split: str) -> list[str]:
    """The files of a split, by the rules of the `datasets` library; its folder where it was saved to disk."""
    if (folder / "dataset_dict.json").is_file():
        splits = {each.parent.name: [str(each.parent)] for each in folder.glob("*/state.json")}
    else:
        library: Any = importlib.import_module("datasets")
        try:
            files: dict[Any, Any] = library.load_dataset_builder(str(folder)).config.data_files or {}
        except (OSError, ValueError) as error:
            reason = f"its splits cannot be told ({str(error).strip().partition(chr(10))[0]})"
            raise BtoksError(path, reason, "index its folder, or one below it") from error
        splits = {str(name): [str(each) for each in found] for name, found in files.items()}
    if split not in splits:
        raise BtoksError(path, f"it has no split {split!r}", did_you_mean(split, splits) if splits else "leave it out")
    return splits[split]
