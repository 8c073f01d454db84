"""SitEmb: a short chunk embedded alone and within its context, and the two scores added (2508.01959).

    situated(chunk, context)  ──▶  row 1   chunk [btoks]               b, what the chunk says by itself
                                   row 2   context ⏎ chunk [btoks]     s, what it says where it stands
    embedding  (b + s) / |b + s|   so that  q · (b + s) = score of the base + situated score

Designed here: one encoder embeds both rows, where the paper freezes a base and trains a second one beside it. A query,
which has no context, then has one embedding, a chunk takes the bytes of one vector, and a chunk without context is what
the plain model makes of it. The chunk stands behind its context, where every token of it sees all of that. An item's
`context` becomes such a text by itself, and a library gives every passage of a long text those around it. Trained by
contrast (InfoNCE on the sum, for the paper's hinge) with pairs of query and `situated` text; chunks of one document are
hard negatives. Inputs in two rows leave no memory to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from btoks import prompts
from btoks.methods import method
from btoks.methods.pooling import _parts, _patches

if TYPE_CHECKING:
    from btoks.patched import Patched

MARK = "\x1e"
"""Stands between a chunk and its context: the control character that parts records."""


def situated(chunk: str, context: str) -> str:
    """A chunk within its context, as a text to embed; the chunk itself where there is none.

    >>> situated("He signed it.", "Ann wrote a letter.")
    'He signed it.\\x1eAnn wrote a letter.'
    """
    chunk, context = (each.replace(MARK, " ") for each in (chunk, context))
    return f"{chunk}{MARK}{context}" if context.strip() else chunk


@method(
    title="SitEmb",
    paper="2508.01959",
    system="A5",
    stage="pool",
    identity={},
    cost="a second row with the context",
)
@dataclass(frozen=True)
class SitEmb(_patches.Patch):
    """The sum of a text's embeddings alone and within its context; what has no context is embedded as ever."""

    parts_rows = True

    def split(self, features: dict[str, Any], backbone: Patched) -> dict[str, Any]:
        """Two rows for every one that has a context."""
        tokenizer = prompts.tokenizer_of(backbone.processor)
        mark, newline = (tokenizer(text, add_special_tokens=False).input_ids for text in (MARK, "\n"))
        rows = _parts.rows(features)
        if not any((row_T == mark[-1]).any() for row_T in rows):
            return features
        tokens = int(backbone.config.btoks["tokens"])
        begin = len(tokenizer(prompts.opening(tokenizer), add_special_tokens=False).input_ids)
        end_N = torch.tensor(newline, device=features["input_ids"].device)
        return _parts.parted(features, [_two(row_T, mark[-1], end_N, tokens, begin) for row_T in rows], backbone)


def _two(row_T: Tensor, mark: int, newline_N: Tensor, tokens: int, begin: int) -> list[Tensor]:
    """The chunk alone, and behind its context; `begin` tokens open every row, `tokens` close it."""
    at = (row_T == mark).nonzero()[:1, 0].tolist()
    if not at:
        return [row_T]
    close = len(row_T) - tokens
    chunk_T, context_T, last_K = row_T[begin : at[0]], row_T[at[0] + 1 : close], row_T[close:]
    alone = [row_T[:begin], chunk_T, newline_N, last_K]
    return [torch.cat(alone), torch.cat([row_T[:begin], context_T, *alone[1:]])]
