"""What does each compression of an embedding table cost in quality?

    python benchmarks/tables.py [DATA] [--json FILE]

Word vectors of the texts in the folder DATA (or $BTOKS_DATA): 5,000 words, 64 wide, the most used first. Every method
at five budgets: is it within them, the squared error it leaves, nDCG@10 of the nearest words against the exact ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from quantize import Rows, run, texts, timed, unit

from btoks import methods, tradeoff
from btoks.errors import BtoksError


def main() -> None:
    """Print a table, write JSON."""
    run(str(__doc__), {"tables": tables})


def tables(options: argparse.Namespace) -> Rows:
    """Every table method at five budgets: bytes, squared error, neighbours kept."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(max_features=5_000, binary=True).fit_transform(texts(Path(options.data)))
    order = np.argsort(-np.asarray(counts.sum(axis=0)).ravel(), kind="stable")
    rows = unit(TruncatedSVD(64, random_state=0).fit_transform(counts.T.tocsr()[order].astype(np.float64)))
    asked, found = np.arange(0, len(rows), 25), []
    for name in methods.names("table"):
        for budget in (0.05, 0.1, 0.25, 0.5, 1.0):
            try:
                seconds, method = timed(lambda n=name, b=budget: methods.create("table", n).fit(rows, b))
            except BtoksError:
                continue
            kept = method.lookup(np.arange(len(rows)))
            ndcg, _ = tradeoff.quality(rows[asked] @ unit(kept).T, rows[asked] @ rows.T)
            size = {"share": method.nbytes / rows.nbytes, "within": method.nbytes <= budget * rows.nbytes}
            error = float(((kept - rows) ** 2).sum() / (rows**2).sum())
            found.append({"method": name, "budget": budget, **size, "error": error, "ndcg": ndcg, "fit s": seconds})
    return found


if __name__ == "__main__":
    main()
