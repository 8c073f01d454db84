"""Vector compression: every method fits, encodes, decodes and scores exact queries against the codes.

method = methods.create("quantize", "pca:0.5+float8").fit(vectors)
codes = method.encode(vectors)
scores = method.score(queries, codes)
"""

from pathlib import Path

from btoks.methods import stored
from btoks.methods.quantize._codes import Codes
from btoks.methods.quantize._primitives import Quantizer, Reducer
from btoks.methods.stored import save

__all__ = ["Codes", "Quantizer", "Reducer", "load", "save"]


def load(path: str | Path) -> Quantizer:
    """Open a fitted method that `save` wrote."""
    method: Quantizer = stored.load(path, "quantize")
    return method
