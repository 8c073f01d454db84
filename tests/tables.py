"""A table for the tests: word vectors made from real text, most used words first."""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import string
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

WORDS, DIM = 600, 24


@functools.cache
def words() -> NDArray[np.float32]:
    """Words of the standard library's text by what stands beside them: log counts, cut to 24 dimensions."""
    source = "".join(inspect.getsource(module) for module in (argparse, inspect, json, string, functools))
    tokens = "".join(letter.lower() if letter.isalpha() else " " for letter in source).split()
    vocabulary = {word: place for place, (word, _) in enumerate(Counter(tokens).most_common(WORDS))}
    counts = np.zeros((WORDS, WORDS))
    known = [vocabulary[word] for word in tokens if word in vocabulary]
    for step in (1, 2, 3):
        np.add.at(counts, (known[:-step], known[step:]), 1)
        np.add.at(counts, (known[step:], known[:-step]), 1)
    return TruncatedSVD(DIM, random_state=0).fit_transform(np.log1p(counts)).astype(np.float32)
