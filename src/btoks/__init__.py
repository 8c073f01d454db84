"""Bottleneck tokens for unified multimodal retrieval.

Names are imported when they are first used: `import btoks` costs milliseconds and does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from btoks.bottleneck import attach
    from btoks.condensation import Memory, generation_loss, memory, read
    from btoks.encode import Encoded, encode_stream
    from btoks.errors import BtoksError
    from btoks.folder import load, save
    from btoks.inputs import fit
    from btoks.library import Library
    from btoks.media import Limits, Source

_HOME = {
    "attach": "bottleneck",
    "load": "folder",
    "save": "folder",
    "fit": "inputs",
    "encode_stream": "encode",
    "Encoded": "encode",
    "Memory": "condensation",
    "memory": "condensation",
    "generation_loss": "condensation",
    "read": "condensation",
    "Library": "library",
    "Source": "media",
    "Limits": "media",
    "BtoksError": "errors",
}
__all__ = [
    "BtoksError",
    "Encoded",
    "Library",
    "Limits",
    "Memory",
    "Source",
    "__version__",
    "attach",
    "encode_stream",
    "fit",
    "generation_loss",
    "load",
    "memory",
    "read",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'btoks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"btoks.{_HOME[name]}"), name)
