"""The memory of the bottleneck tokens: taking it, the generation loss on it, and reading text from it.

Generative Information Condensation predicts a target from the bottleneck tokens alone. As one masked pass
(rows attend to columns, x = allowed):

                 input   btoks   target
        input    causal
        btoks      x     causal
        target     .       x     causal

The input and the bottleneck tokens never see the target, so one pass over `[input][btoks]` serves every purpose, and
the target runs later on the keys and values of the K positions alone. Both ways give the same numbers, and the second
needs no custom mask and works with every attention kernel.

Shape suffixes: B batch, T target tokens, S input tokens, K bottleneck tokens, L layers, H key heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from btoks.bottleneck import generator, record, transformer
from btoks.caches import Prefix, Taken, caching, positions
from btoks.errors import BtoksError
from btoks.methods.pooling._primitives import last_positions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SILENT = -1  # stands for what a row would say after its end
_READABLE = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class Memory:
    """Keys and values of the K bottleneck tokens in every layer, and the position at which text goes on.

    Bytes: 2·L·B·H·K·D of the model's type, and 8 a row for the position. A memory of whole inputs, for comparison, has
    their S places instead of K, and a mask that tells them from padding.
    """

    keys_LBHKD: Tensor
    values_LBHKD: Tensor
    position_B: Tensor
    mask_BK: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, equal to the closed form."""
        return sum(each.numel() * each.element_size() for each in self._tensors().values())

    def __len__(self) -> int:
        return self.position_B.shape[0]

    def __getitem__(self, rows: slice | list[int] | Tensor) -> Memory:
        """The memory of some rows."""
        mask_BK = None if self.mask_BK is None else self.mask_BK[rows]
        return Memory(self.keys_LBHKD[:, rows], self.values_LBHKD[:, rows], self.position_B[rows], mask_BK)

    def first(self, tokens: int) -> Memory:
        """The memory of the first bottleneck tokens alone, as a model with no more of them would leave it.

        Attention is causal: what they hold does not depend on those behind them, which text then follows earlier.
        """
        held = self.keys_LBHKD.shape[3]
        if self.mask_BK is not None or not 1 <= tokens <= held:
            what = "that of whole inputs" if self.mask_BK is not None else f"{held} tokens"
            raise BtoksError(f"{tokens} tokens of a memory", f"it is {what}", f"ask for 1 to {held} of a condensed one")
        keys_LBHKD, values_LBHKD = (each[:, :, :, :tokens] for each in (self.keys_LBHKD, self.values_LBHKD))
        return Memory(keys_LBHKD, values_LBHKD, self.position_B - (held - tokens))

    def to(self, device: torch.device | str) -> Memory:
        """The memory on another device."""
        return Memory(**{name: each.to(device) for name, each in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        every = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: each for name, each in every.items() if each is not None}

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        path = Path(path)
        part = path.with_name(path.name + ".part")
        save_file({name: each.detach().contiguous() for name, each in self._tensors().items()}, part)
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu") -> Memory:
        """Read what `save` wrote."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return cls(**load_file(path, device=device))
        except (OSError, TypeError, SafetensorError) as error:
            raise BtoksError(str(path), "not a memory file", "pass one written by Memory.save") from error


def nbytes(config: Any, tokens: int, rows: int, itemsize: int = 4) -> int:
    """The closed form: bytes of the memory of `rows` items.

    >>> from types import SimpleNamespace as Config
    >>> nbytes(Config(num_hidden_layers=28, num_key_value_heads=8, head_dim=128), tokens=4, rows=1, itemsize=2)
    458760
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(rows * (2 * text.num_hidden_layers * text.num_key_value_heads * tokens * width * itemsize + 8))


def memory(model: SentenceTransformer, features: Mapping[str, Any], *, full: bool = False) -> tuple[Tensor, Memory]:
    """Embedding and memory of a preprocessed batch, from one pass.

    With `full` the memory holds the whole inputs: what generation without condensation would see.

    >>> embedding, held = memory(model, model.preprocess([{"text": "a red fox"}]))  # doctest: +SKIP
    """
    with remembering(model, features, full=full) as (batch, held):
        embedding_BD: Tensor = model(batch)["sentence_embedding"]
    return embedding_BD, held()


@contextmanager
def remembering(
    model: SentenceTransformer, features: Mapping[str, Any], *, full: bool = False
) -> Iterator[tuple[dict[str, Any], Callable[[], Memory]]]:
    """The features with which to run the model, and its memory, to ask for once the language model has run.

    For callers that run the model themselves, such as through a distributed wrapper; `memory` is the plain way.
    """
    tokens = int(record(model)["tokens"])
    _require_readable(model, tokens)
    batch = {key: value.to(model.device) if isinstance(value, Tensor) else value for key, value in features.items()}
    mask_BS: Tensor = batch["attention_mask"]
    if "position_ids" not in batch and not hasattr(transformer(model).model, "get_rope_index"):
        batch["position_ids"] = (mask_BS.cumsum(1) - 1).clamp(min=0)
    taken = Taken(None if full else last_positions(mask_BS, tokens))
    seen: list[Tensor] = []
    decoder = generator(model).get_decoder()

    def held() -> Memory:
        position_B = _next_position(record(model)["start"], seen[0], mask_BS)
        keys_LBHKD, values_LBHKD = torch.stack(taken.kept_keys), torch.stack(taken.kept_values)
        return Memory(keys_LBHKD, values_LBHKD, position_B, mask_BS if full else None)

    with caching(decoder), positions(decoder, seen):
        yield {**batch, "past_key_values": taken}, held


def generation_loss(model: SentenceTransformer, memory: Memory, target_ids_BT: Tensor, supervised_BT: Tensor) -> Tensor:
    """Next-token loss of a target predicted from the memory alone (B,): the mean over a row's supervised tokens.

    The ids hold prefix, target and suffix, padded on the right; a token counts where `supervised_BT` is true. The
    first token has nothing before it in the target and never counts. A row without any supervised token gives 0.
    """
    lacks = max(2 - target_ids_BT.shape[1], 0)  # a backward pass runs through the model even where no text is
    target_BT, supervised_BT = (
        nn.functional.pad(each.to(memory.position_B.device), (0, lacks)) for each in (target_ids_BT, supervised_BT)
    )
    counts_BT = supervised_BT[:, 1:].bool()
    hidden_BTD = _continue(model, memory, target_BT[:, :-1])
    row_N, place_N = counts_BT.nonzero(as_tuple=True)
    logits_NV = logits(model, hidden_BTD[row_N, place_N])
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    loss_N = nn.functional.cross_entropy(logits_NV, target_BT[:, 1:][row_N, place_N], reduction="none")
    total_B = torch.zeros(len(memory), dtype=loss_N.dtype, device=loss_N.device).index_add(0, row_N, loss_N)
    return total_B / counts_BT.sum(dim=1).clamp(min=1)


@torch.no_grad()
def read(
    model: SentenceTransformer,
    memory: Memory,
    prompt: str = "",
    *,
    max_new_tokens: int = 128,
    temperature: float = 0.0,
    seed: int | None = None,
) -> list[str]:
    """Text generated from the memory alone, one string a row; greedy at temperature 0.

    A `prompt` stands before the opening of the model's turn.
    """
    notes = record(model)
    tokenizer = model.tokenizer
    opening = (f"{prompt}\n" if prompt else "") + notes["prefix"]
    start_T = tokenizer(opening, add_special_tokens=False, return_tensors="pt").input_ids[0]
    ends = {tokenizer.eos_token_id, *tokenizer(notes["suffix"], add_special_tokens=False).input_ids[:1]}
    ids_BT = start_T.to(model.device).expand(len(memory), -1)
    cache, position_B = _held(memory), memory.position_B
    randomness = None if seed is None else torch.Generator(model.device).manual_seed(seed)
    done_B = torch.zeros(len(memory), dtype=torch.bool, device=model.device)
    spoken: list[Tensor] = []
    for _ in range(max_new_tokens):
        hidden_BTD = _run(model, ids_BT, position_B, cache, memory.mask_BK)
        next_B = _pick(_speakable(model, logits(model, hidden_BTD[:, -1])), temperature, randomness)
        done_B |= torch.isin(next_B, torch.tensor(sorted(ends), device=model.device))
        if done_B.all():
            break
        spoken.append(next_B.masked_fill(done_B, _SILENT))
        position_B, ids_BT = position_B + ids_BT.shape[1], next_B[:, None]
    rows = torch.stack(spoken, dim=1).tolist() if spoken else [[] for _ in range(len(memory))]
    told = ([token for token in row if token != _SILENT] for row in rows)
    return [tokenizer.decode(row, skip_special_tokens=True) for row in told]


def logits(model: SentenceTransformer, hidden: Tensor) -> Tensor:
    """The language model's logits for last-layer states, with whatever its configuration does to them."""
    full = generator(model)
    text = full.config.get_text_config()
    out: Tensor = full.get_output_embeddings()(hidden)
    scale, divisor, cap = (
        getattr(text, name, None) for name in ("logit_scale", "logits_scaling", "final_logit_softcapping")
    )
    out = out if scale is None else out * scale
    out = out if divisor is None else out / divisor
    return torch.tanh(out / cap) * cap if cap else out


def _held(memory: Memory, kind: type[DynamicCache] = DynamicCache) -> DynamicCache:
    layers = zip(memory.keys_LBHKD.unbind(), memory.values_LBHKD.unbind(), strict=True)
    return kind(ddp_cache_data=list(layers))


def _continue(model: SentenceTransformer, memory: Memory, ids_BT: Tensor) -> Tensor:
    """Last-layer states of text that follows the memory (B, T, D)."""
    text = generator(model).config.get_text_config()
    window = getattr(text, "sliding_window", None)
    slides = "sliding_attention" in (getattr(text, "layer_types", None) or [])
    tokens = memory.keys_LBHKD.shape[3]
    if slides and window and tokens + ids_BT.shape[1] >= window:
        raise BtoksError(f"target of {ids_BT.shape[1]} tokens", f"the window is {window} tokens", "cut the target")
    with caching(generator(model).get_decoder()):
        return _run(model, ids_BT, memory.position_B, _held(memory, Prefix), memory.mask_BK)


def _run(
    model: SentenceTransformer, ids_BT: Tensor, position_B: Tensor, cache: DynamicCache, mask_BK: Tensor | None
) -> Tensor:
    place_BT = position_B[:, None] + torch.arange(ids_BT.shape[1], device=ids_BT.device)
    attended = ids_BT.new_ones(ids_BT.shape[0], cache.get_seq_length() + ids_BT.shape[1])
    if mask_BK is not None:
        attended[:, : mask_BK.shape[1]] = mask_BK
    decoder = generator(model).get_decoder()
    out: Tensor = decoder(
        input_ids=ids_BT, attention_mask=attended, position_ids=place_BT, past_key_values=cache
    ).last_hidden_state
    return out


def _pick(logits_BV: Tensor, temperature: float, randomness: torch.Generator | None) -> Tensor:
    if temperature <= 0:
        return logits_BV.argmax(dim=-1)
    odds_BV = torch.softmax(logits_BV.float() / temperature, dim=-1)
    return torch.multinomial(odds_BV, 1, generator=randomness)[:, 0]


def _speakable(model: SentenceTransformer, logits_BV: Tensor) -> Tensor:
    """Bottleneck tokens are never spoken, nor are rows of the table that no text has."""
    from btoks.prompts import token_name

    names = [token_name(place) for place in range(record(model)["tokens"])]
    out = logits_BV.clone()
    out[:, len(model.tokenizer) :] = -torch.inf
    out[:, model.tokenizer.convert_tokens_to_ids(names)] = -torch.inf
    return out


def _next_position(start: str, seen: Tensor, mask_BS: Tensor) -> Tensor:
    """Where text goes on: after the largest position id of any rotary axis, or at the token count."""
    if start == "tokens":
        return mask_BS.sum(dim=1)
    axes_ABS = seen.reshape(-1, seen.shape[-2], seen.shape[-1]).expand(-1, mask_BS.shape[0], -1)
    return ((axes_ABS.amax(dim=0) * mask_BS).amax(dim=1) + 1).ceil().long()


def _require_readable(model: SentenceTransformer, tokens: int) -> None:
    config = generator(model).config.get_text_config()
    other = sorted(set(getattr(config, "layer_types", None) or []) - _READABLE)
    if tokens == 0:
        raise BtoksError("memory", "the model has no bottleneck tokens", "attach it with tokens ≥ 1")
    if other:
        raise BtoksError(
            "memory", f"layers of kind {', '.join(other)} keep no keys to read", "use this model for embeddings only"
        )
