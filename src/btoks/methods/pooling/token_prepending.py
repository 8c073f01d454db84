"""Token Prepending: the sentence's own state put in front of it again at every layer, without training (2412.11556).

    layer start:   this sentence : ▢ " w1 w2 … wn " means in one word: " [btoks]
                                   ▲                                   │   the last token, or the first btok
                                   └───────────────────────────────────┘   copied before each layer of the window

Under causal attention w1 sees nothing of w2 … wn; through ▢ it does, one layer late. The prompts of PromptEOL and
Pretended-CoT are the published ones; that of knowledge and the eight of MetaEOL (two each of four ways of looking at a
text) are worded here. The layers above the one that is read run all the same: a memory needs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from btoks import prompts
from btoks.errors import BtoksError, did_you_mean
from btoks.methods import method
from btoks.methods.pooling import _parts, _patches, _primitives

if TYPE_CHECKING:
    from btoks.patched import Patched

_SENTENCE, _WORD = "This sentence : ", 'means in one word: "'
_WAYS = (
    "Name the topic that the text belongs to.",
    "Name the kind of text that this is.",
    "Judge the feeling that the text conveys.",
    "Judge the opinion that the writer holds.",
    "Keep what a rewording of the text would keep.",
    "Keep what tells the text from one of another meaning.",
    "Extract who or what the text is about.",
    "Extract what happens in the text.",
)
_SHARE = 5  # a window of a fifth of the layers, as 6 of 28 and 7 of 32 are
PROMPTS: dict[str, tuple[tuple[str, str], ...]] = {
    "none": (("", "\n"),),
    "eol": ((_SENTENCE, _WORD),),
    "cot": (("After thinking step by step , this sentence : ", _WORD),),
    "knowledge": (
        (
            "The meaning of a sentence lies in its subjects and actions. With this in mind , this sentence : ",
            _WORD,
        ),
    ),
    "meta": tuple((f"{way} {_SENTENCE}", _WORD) for way in _WAYS),
}


@method(
    title="Token Prepending",
    paper="2412.11556",
    system="A2",
    stage="pool",
    takes=("text",),
    identity={"prompt": "none", "stop": 1, "exit": -1},
    cost="the prompt's tokens and one; meta: eight rows",
)
@dataclass(frozen=True)
class TokenPrepending(_patches.Patch):
    """A `prompt` (eol, cot, knowledge, meta, none), a window of layers `start` to `stop`, the layer `exit` to read.

    Layers count from 0 and the window leaves `stop` out; by default it is a fifth of them. An empty window is the
    prompt alone. `exit` counts as hidden states do: −1 is the last layer's, −2 the one before.
    """

    prompt: str = "eol"
    start: int = 1
    stop: int | None = None
    exit: int = -2

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise BtoksError(f"prompt={self.prompt!r}", "there is none", did_you_mean(self.prompt, PROMPTS))
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise BtoksError(f"layers {self.start} to {self.stop}", "not a window", "pass 0 ≤ start ≤ stop")

    @property
    def parts_rows(self) -> bool:  # type: ignore[override]
        """With several prompts."""
        return len(PROMPTS[self.prompt]) > 1

    def frames(self, slot: str) -> tuple[tuple[str, str], ...]:
        """The prompts, with the slot where the window is not empty."""
        empty = self.stop == self.start
        if self.prompt == "none":
            return () if empty else ((slot, "\n"),)
        room = "" if empty else f"{slot} "
        return tuple((f'{before}{room}"', f'" {after}') for before, after in PROMPTS[self.prompt])

    def split(self, features: dict[str, Any], backbone: Patched) -> dict[str, Any]:
        """A part a prompt, cut at the tokens that stand between them."""
        if not self.parts_rows:
            return features
        end, every = prompts.tokenizer_of(backbone.processor).eos_token_id, 1 if self.stop == self.start else 2
        parts = [_cut(row_T, end, every) for row_T in _parts.rows(features)]
        return _parts.parted(features, parts, backbone)

    @contextmanager
    def patching(self, run: _patches.Run) -> Iterator[None]:
        """The copies before the layers of the window, and the state that is read."""
        layers = run.decoder.layers
        window, read = self._window(len(layers)), self._read(len(layers))
        slot_B, from_B = self._places(run) if window else (run.lengths, run.lengths)
        row_B = torch.arange(len(slot_B), device=slot_B.device)

        def copied(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden_BTD: Tensor = args[0] if args else kwargs["hidden_states"]
            seen_BTD = hidden_BTD.clone()
            seen_BTD[row_B, slot_B] = hidden_BTD[row_B, from_B]
            return ((seen_BTD, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": seen_BTD})

        def kept(_: Any, __: Any, out: Any) -> None:
            run.states = out[0] if isinstance(out, tuple) else out

        copies = [(layers[place].register_forward_pre_hook, copied) for place in window]
        reads = [] if read is None else [(layers[read].register_forward_hook, kept)]
        with _patches.hooked(*copies, with_kwargs=True), _patches.hooked(*reads):
            yield

    def _window(self, count: int) -> range:
        stop = self.stop if self.stop is not None else min(self.start + max(1, count // _SHARE), count)
        if not self.start <= stop <= count:
            raise BtoksError(f"layers {self.start} to {stop}", f"the model has {count}", f"stop at {count} or before")
        return range(self.start, stop)

    def _read(self, count: int) -> int | None:
        """The layer whose output is read; None for the last, whose states are normalised."""
        place = self.exit if self.exit > 0 else count + 1 + self.exit
        if not 1 <= place <= count:
            raise BtoksError(f"exit={self.exit}", f"the model has {count} layers", f"pass -{count} to -1")
        return None if place == count else place - 1

    def _places(self, run: _patches.Run) -> tuple[Tensor, Tensor]:
        """Where the slot is in each row, and what is copied into it: the first bottleneck token or the last token."""
        found_BT = (run.ids_BT == run.slot) & run.mask_BT.bool()
        return found_BT.int().argmax(dim=1), _primitives.last_positions(run.mask_BT, max(run.tokens, 1))[:, 0]


def _cut(row_T: Tensor, end: int, every: int) -> list[Tensor]:
    """The stretches of a row between every `every`-th end of text."""
    at = (row_T == end).nonzero()[:, 0].tolist()[every - 1 :: every]
    begins = [0, *(place + 1 for place in at)]
    return [row_T[begin:stop] for begin, stop in zip(begins, [*at, len(row_T)], strict=True)]
