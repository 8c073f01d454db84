"""Length collapse: do embeddings of long texts crowd together, and what does attention do to them (2410.24200)?

Texts of each length are paragraphs joined and cut to it. Three measures, the last two layer by layer:

    cosine     mean cosine of pairs of embeddings of one length; a rise with length is the collapse
    entropy    mean entropy of the rows of attention, in parts of the most that their length allows
    high/low   energy of a text's states about their mean over that of the mean: what a low-pass filter takes away
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from btoks import methods
from btoks.bottleneck import generator, record
from btoks.bundled import benchmark
from btoks.errors import BtoksError
from btoks.methods.pooling import _attention, _patches
from btoks.methods.pooling.chain import led

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LENGTHS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Point:
    """What was measured of one length: the mean cosine of pairs, and by layer the entropy and the energy ratio."""

    temperature: float
    length: int
    texts: int
    cosine: float
    entropy: list[float]
    energy: list[float]


@dataclass
class _Layers:
    """Sums over the texts, by layer."""

    entropy: dict[int, float] = field(default_factory=dict)
    energy: dict[int, float] = field(default_factory=dict)


def measure(
    model: SentenceTransformer,
    *,
    lengths: Sequence[int] = LENGTHS,
    temperatures: Sequence[float] = (1.0,),
    texts: int = 16,
    paragraphs: Sequence[str] | None = None,
    done: Callable[[Point], None] = lambda _: None,
) -> list[Point]:
    """The measures for each temperature and length, on `texts` texts of `paragraphs`, by default bundled prose.

    >>> measure(btoks.load("btoks-mini"), lengths=[32, 128])  # doctest: +SKIP
    """
    if texts < 2 or not lengths or min(lengths) < 1:
        raise BtoksError("length collapse", "nothing to compare", "pass lengths above 0 and at least 2 texts")
    given = prose() if paragraphs is None else list(paragraphs)
    if len(given) < texts:
        raise BtoksError("length collapse", f"{len(given)} paragraphs for {texts} texts", "give more, or ask for fewer")
    points = []
    for temperature in temperatures:
        with _tempered(model, temperature):
            for length in lengths:
                points.append(_measured(model, temperature, length, joined(given, length, texts, model.tokenizer)))
                done(points[-1])
    return points


def prose() -> list[str]:
    """The English paragraphs of the benchmark that comes along."""
    from btoks.training.layers import layers

    return [text for name, text in layers(benchmark() / "xquad").items() if name.endswith("-en")]


def joined(paragraphs: Sequence[str], length: int, texts: int, tokenizer: Any) -> list[str]:
    """Texts of `length` tokens, each beginning with another paragraph and going on through the next ones."""
    step = len(paragraphs) / texts
    made = []
    for number in range(texts):
        begin, whole = int(number * step), ""
        for at in range(len(paragraphs)):
            whole += paragraphs[(begin + at) % len(paragraphs)] + " "
            offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
            if len(offsets) >= length:
                break
        else:
            raise BtoksError(f"length {length}", "there is less text than that", "give more paragraphs")
        made.append(whole[: offsets[length - 1][1]])
    return made


def slope(points: Sequence[Point]) -> float:
    """By how much the mean cosine rises with each doubling of the length."""
    if len(points) < 2:
        return 0.0
    return float(np.polyfit(np.log2([each.length for each in points]), [each.cosine for each in points], 1)[0])


def canvas(out: Path) -> Any:
    """An empty figure for this file; refuses what cannot be drawn."""
    if out.suffix not in (".png", ".svg"):
        raise BtoksError(str(out), "not a PNG or SVG", "let its name end in .png or .svg")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BtoksError("plot", "matplotlib is not installed", "pip install 'btoks[plot]'") from error
    return Figure(figsize=(10.8, 3.0), layout="constrained")


def plot(points: Sequence[Point], out: str | Path) -> Path:
    """Draw cosine over length, and entropy and energy over layers for the longest, into a PNG or SVG."""
    out = Path(out)
    figure = canvas(out)
    axes: Any = figure.subplots(1, 3)
    for temperature in dict.fromkeys(each.temperature for each in points):
        own = [each for each in points if each.temperature == temperature]
        last, name = own[-1], f"τ = {temperature:g}"
        axes[0].plot([each.length for each in own], [each.cosine for each in own], marker=".", label=name)
        axes[1].plot(range(1, len(last.entropy) + 1), last.entropy, marker=".", label=name)
        axes[2].plot(range(1, len(last.energy) + 1), last.energy, marker=".", label=name)
    longest = max(each.length for each in points)
    axes[0].set(title="mean cosine of pairs", xlabel="tokens", xscale="log")
    axes[1].set(title=f"entropy of attention, {longest} tokens", xlabel="layer")
    axes[2].set(title=f"high / low energy, {longest} tokens", xlabel="layer", yscale="log")
    axes[0].legend(fontsize="x-small")
    figure.savefig(out, dpi=120)
    return out


@contextmanager
def _tempered(model: SentenceTransformer, temperature: float) -> Iterator[None]:
    """The model's own pooling at a temperature, with no budget that would cut the texts."""
    notes = record(model)
    before = notes["max_tokens"]
    notes["max_tokens"] = 1 << 30
    change = methods.create("pooling", {"name": "tempscale", "temperature": temperature})
    try:
        with methods.apply(model, led(notes["pooling"], change)):
            yield
    finally:
        notes["max_tokens"] = before


def _measured(model: SentenceTransformer, temperature: float, length: int, texts: list[str]) -> Point:
    layers, vectors = _Layers(), []
    with torch.inference_mode(), _watched(model, layers):
        for text in texts:  # one by one: no padding to leave out of the sums
            batch = model.preprocess([{"text": text}])
            batch = {key: each.to(model.device) if isinstance(each, Tensor) else each for key, each in batch.items()}
            vectors.append(model(batch)["sentence_embedding"][0].float().cpu().numpy())
    unit_ND = np.stack(vectors)
    cosines_NN = unit_ND @ unit_ND.T
    cosine = float(cosines_NN[np.triu_indices(len(unit_ND), 1)].mean())
    entropy, energy = (
        [found[layer] / len(texts) for layer in sorted(found)] for found in (layers.entropy, layers.energy)
    )
    return Point(temperature, length, len(texts), cosine, entropy, energy)


@contextmanager
def _watched(model: SentenceTransformer, layers: _Layers) -> Iterator[None]:
    """Take the measures of every layer while the model runs."""
    decoder = generator(model).get_decoder()

    def measured(kernel: _attention.Kernel) -> _attention.Kernel:
        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
        ) -> tuple[Tensor, Tensor | None]:
            scale = float(options.get("scaling") or query.shape[-1] ** -0.5)
            layer: Any = module.layer_idx
            layers.entropy[layer] = layers.entropy.get(layer, 0.0) + _entropy(query, key, scale)
            return kernel(module, query, key, value, mask, **options)

        return attend

    def noted(place: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            states_TD = (out[0] if isinstance(out, tuple) else out)[0].double()
            mean_D = states_TD.mean(dim=0)
            ratio = float((states_TD - mean_D).square().sum() / (len(states_TD) * mean_D.square().sum()))
            layers.energy[place] = layers.energy.get(place, 0.0) + ratio

        return hook

    hooks = [(layer.register_forward_hook, noted(place)) for place, layer in enumerate(decoder.layers)]
    with _patches.hooked(*hooks), _attention.changed(decoder, measured, inner=True):
        yield


def _entropy(query: Tensor, key: Tensor, scale: float) -> float:
    """The mean over heads and rows of the entropy of causal attention, over the log of what a row may see."""
    places = torch.arange(query.shape[2], device=query.device)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query @ key.transpose(2, 3)).float() * scale
    logs = torch.log_softmax(scores.masked_fill(places > places[:, None], -torch.inf), dim=-1)
    rows = -(logs.exp() * logs.clamp(min=-1e4)).sum(dim=-1)[..., 1:]
    return float((rows / torch.log(places[1:] + 1.0)).mean())
