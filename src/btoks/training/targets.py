"""What the bottleneck tokens of one side must say: the text of the other side, read off its own features.

prefix   text   suffix
  .       x       x       x = supervised
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import torch
from sentence_transformers.util.distributed import get_world_size

from btoks import prompts
from btoks.bottleneck import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentence_transformers import SentenceTransformer
    from torch import Tensor

_MARK = "§text§"


class Targets:
    """Generation targets for a model, from the features of the side that is to be spoken of.

    Users' texts hold no special tokens (the template sees to it), so whatever follows the last one is text: image and
    video tokens, boundaries and the timestamps between them all stand before it.
    """

    def __init__(self, model: SentenceTransformer, longest: int) -> None:
        notes, processor = record(model), cast("Any", model[0]).processor
        self.tokens, self.longest = int(notes["tokens"]), longest
        self.tokenizer = prompts.tokenizer_of(processor)
        self.special = re.compile("|".join(re.escape(each) for each in dict.fromkeys(prompts.forgeable(processor))))
        between, self.tail = _around(processor, self.tokens)
        self.turn = between if notes["layout"] == "chat" else ""
        self.prefix, self.suffix = (self._ids(notes[each]) for each in ("prefix", "suffix"))

    def texts(self, features: Mapping[str, Any]) -> list[str]:
        """What each row says, without what its layout wrote around it.

        >>> Targets(model, 512).texts(model.preprocess([{"text": "a fox", "image": picture}]))  # doctest: +SKIP
        ['a fox']
        """
        rows = zip(features["input_ids"].cpu(), features["attention_mask"].cpu().bool(), strict=True)
        return [self._text(ids_S[mask_S][: -self.tokens]) for ids_S, mask_S in rows]

    def __call__(self, features: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Ids and what is supervised, both (B, T) and padded on the right; T is 0 where no row says anything."""
        said = [self._ids(text)[: self.longest + 1] for text in self.texts(features)]
        rows = [self._row(ids) if ids else ([], []) for ids in said]
        width = max((len(ids) for ids, _ in rows), default=0)
        device = features["input_ids"].device
        ids_BT = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows], dtype=torch.long)
        supervised_BT = torch.tensor([on + [False] * (width - len(on)) for _, on in rows], dtype=torch.bool)
        return ids_BT.to(device), supervised_BT.to(device)

    def _row(self, ids: list[int]) -> tuple[list[int], list[bool]]:
        """A text that is cut goes on: it has no end to predict."""
        said = ids[: self.longest] if len(ids) > self.longest else ids + self.suffix
        return self.prefix + said, [False] * len(self.prefix) + [True] * len(said)

    def _text(self, ids_S: Tensor) -> str:
        whole = self.tokenizer.decode(ids_S, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        said = whole.removesuffix(self.tail)
        if self.turn:
            said = said.rpartition(self.turn)[2]
        return self.special.split(said)[-1].strip()

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids


def anywhere(width: int) -> bool:
    """Whether a device has a target: sharded models run the same passes on all of them."""
    if get_world_size() == 1:
        return width > 0
    widths: list[int | None] = [None] * get_world_size()
    torch.distributed.all_gather_object(widths, width)
    return any(widths)


def _around(processor: Any, tokens: int) -> tuple[str, str]:
    """What the template writes between the instruction and the text, and between the text and the bottleneck tokens."""
    said = [{"role": role, "content": [{"type": "text", "text": _MARK}]} for role in ("system", "user")]
    _, between, tail = str(processor.apply_chat_template(said, tokenize=False)).split(_MARK)
    return between, tail.removesuffix("".join(prompts.token_name(place) for place in range(tokens)))
