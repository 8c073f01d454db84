"""Checkpoints of other projects, opened: the authors' own, plain models, and adapters over them.

Every tensor has to find its place: a missing or an unexpected name is an error, since a model that is only partly
loaded embeds at chance without a sound.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks import prompts
from btoks.bottleneck import NoHead, add_tokens, generative_class, limit_pixels
from btoks.convert import first_line, read_json
from btoks.errors import BtoksError

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "_modules_dict.backbone.model."
_TYPES = {
    "injector": {"BToksTokenInjector": ""},
    "backbone": {
        "Qwen2VLBackbone": "qwen2_vl",
        "Qwen2_5_VLBackbone": "qwen2_5_vl",
        "Qwen2_5VLBackbone": "qwen2_5_vl",
        "Qwen3VLBackbone": "qwen3_vl",
    },
    "pooling": {"BToksPooling": ""},
    "normalize": {"Normalize": ""},
}
# The limits the authors trained with: pixels of an image, and of one frame of a video.
_IMAGE_PIXELS = 28 * 28 * 1280
_FRAME_PIXELS = {"qwen2_vl": 28 * 28 * 768, "qwen2_5_vl": 28 * 28 * 768, "qwen3_vl": 28 * 28 * 384}
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'text' %}{{ part.text }}"
    "{% else %}{{ '@START@' ~ ('@VIDEO@' if part.type == 'video' else '@IMAGE@') ~ '@END@' }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Opened:
    """A generative model in memory with its processor; its vocabulary holds `tokens` bottleneck tokens."""

    full: Any
    processor: Any
    tokens: int

    @property
    def head(self) -> bool:
        """Whether the checkpoint had a language-model head."""
        return not isinstance(self.full.get_output_embeddings(), NoHead)


def authors(folder: Path) -> Opened:
    """A checkpoint of the authors' public code: the whole pipeline in one file, the backbone under a prefix."""
    modules = _modules(folder)
    family = _TYPES["backbone"][modules["backbone"]["type"]]
    tokens = modules["injector"].get("num_tokens")
    if not isinstance(tokens, int) or tokens < 0:
        raise BtoksError(str(folder), f"num_tokens is {tokens!r}", "give the injector a whole number in config.json")
    settings = modules["backbone"].get("backbone_config")
    if not isinstance(settings, dict):
        raise BtoksError(str(folder), "its backbone has no backbone_config", "save it with the authors' current code")
    config = _config({"model_type": family, **settings}, folder)
    stored = weights(folder)
    strange = sorted(key for key in stored if not key.startswith(_PREFIX))
    if strange:
        raise BtoksError(
            str(folder), f"unknown weights, such as {strange[0]}", "pass a checkpoint of the published layout"
        )
    full = _filled(config, {key.removeprefix(_PREFIX): value for key, value in stored.items()}, folder)
    processor = processor_of([folder], config)
    # Its own template is a vehicle of its prompt, if it has one at all; ours is made from that of the backbone.
    pieces = {"START": "vision_start", "END": "vision_end", "IMAGE": "image", "VIDEO": "video"}
    spelled = {slot: processor.tokenizer.decode([getattr(config, f"{name}_token_id")]) for slot, name in pieces.items()}
    processor.chat_template = re.sub("@(START|END|IMAGE|VIDEO)@", lambda slot: str(spelled[slot[1]]), _CHATML)
    _take_tokens(full, processor.tokenizer, tokens, folder)
    image = processor.image_processor
    limit_pixels(processor, _IMAGE_PIXELS // (image.patch_size * image.merge_size) ** 2)
    limit_video(processor, _FRAME_PIXELS[family], each_frame=True)
    return Opened(full, processor, tokens)


def plain(folder: Path) -> Opened:
    """A folder as transformers writes it: a generative model, or its body alone."""
    config = _config(read_json(folder / "config.json"), folder)
    return Opened(_filled(config, weights(folder), folder), processor_of([folder], config), 0)


def adapted(folder: Path, base: Path) -> Opened:
    """A LoRA or DoRA adapter merged into the model it was trained on; every key of it has to match."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from safetensors.torch import save_file

    settings = read_json(folder / "adapter_config.json")
    if settings.get("peft_type") != "LORA":
        raise BtoksError(
            str(folder), f"an adapter of kind {settings.get('peft_type')}", "only LoRA and DoRA are merged"
        )
    stored = weights(folder, "adapter_model.safetensors")
    opened = plain(base)
    placed = _placed(stored, opened.full)
    with tempfile.TemporaryDirectory() as place:
        save_file(dict(placed), Path(place) / "adapter_model.safetensors", metadata={"format": "pt"})
        try:
            chosen = PeftConfig.from_pretrained(str(folder))
            wrapped = PeftModel.from_pretrained(opened.full, place, config=chosen)
        except (RuntimeError, ValueError, TypeError) as error:
            raise BtoksError(str(folder), first_line(error), "use the adapter's own base") from error
    odd = sorted(set(placed) ^ set(get_peft_model_state_dict(wrapped, save_embedding_layers=False)))
    if odd:
        reason = f"{len(odd)} adapter keys do not match the model, such as {odd[0]}"
        raise BtoksError(str(folder), reason, "use the adapter's own base")
    full = wrapped.merge_and_unload(safe_merge=True)
    full.__dict__.pop("peft_config", None)
    return Opened(full, processor_of([base, folder], full.config), 0)


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, Tensor]:
    """The tensors of a folder by name, from one file or from shards; safetensors only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / f"{name}.index.json"
    files = sorted(set(read_json(index).get("weight_map", {}).values())) if index.is_file() else [name]
    found: dict[str, Tensor] = {}
    for each in files:
        file = folder / Path(each).name
        if not file.is_file():
            raise BtoksError(str(folder), f"no {file.name}", "pass a folder with all of its safetensors files")
        try:
            found |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise BtoksError(str(file), first_line(error), "fetch the file again") from error
    return found


def processor_of(folders: Iterable[Path], config: Any) -> Any:
    """The processor (or tokenizer) whose files lie in these folders, a later one's files over an earlier one's."""
    from transformers import AutoProcessor

    auto: Any = AutoProcessor
    with tempfile.TemporaryDirectory() as place:
        for folder in folders:
            for file in folder.iterdir():
                if file.suffix in {".json", ".jinja", ".txt", ".model"} and not file.name.startswith("adapter_"):
                    shutil.copyfile(file, Path(place) / file.name)
        config.save_pretrained(place)
        try:
            return auto.from_pretrained(place, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            names = ", ".join(str(folder) for folder in folders)
            raise BtoksError(
                names, "no readable tokenizer and processor", "put their files beside the weights"
            ) from error


def limit_video(processor: Any, pixels: int, *, each_frame: bool) -> None:
    """Keep a video, or each of its frames, within an area, never above the processor's own limit."""
    video: Any = getattr(processor, "video_processor", None)
    size: Any = getattr(video, "size", None)
    if not getattr(size, "longest_edge", None) or size["longest_edge"] <= pixels:
        return
    # A budget that the frames share shows as fewer patches a frame in a longer video.
    short, long = (video.get_num_of_video_patches(count, 4096, 4096, {}) for count in (2, 8))
    if each_frame and long < 4 * short:
        video.cap_pixels_per_frame = True
        video.max_video_tokens = pixels // (video.patch_size * video.merge_size) ** 2
    else:
        video.size = {"shortest_edge": min(size["shortest_edge"], pixels), "longest_edge": pixels}


def _modules(folder: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read_json(folder / "config.json")["modules"]
    for name, settings in found.items():
        kind = settings.get("type") if isinstance(settings, Mapping) else settings
        if kind not in _TYPES.get(name, {}):
            known = ", ".join(each for kinds in _TYPES.values() for each in kinds)
            raise BtoksError(str(folder), f"unknown module {name} of type {kind}", f"convertible are {known}")
    absent = sorted(set(_TYPES) - set(found))
    if absent:
        raise BtoksError(
            str(folder), f"config.json names no module {absent[0]}", "pass a checkpoint of the published layout"
        )
    return found


def _config(settings: Mapping[str, Any], folder: Path) -> Any:
    from transformers import AutoConfig

    given = dict(settings)
    try:
        config = AutoConfig.for_model(given.pop("model_type", ""), **given)
    except (ValueError, TypeError, KeyError) as error:
        raise BtoksError(str(folder), first_line(error), "pass a model that transformers knows") from error
    if getattr(config.get_text_config(), "tie_word_embeddings", False):
        config.tie_word_embeddings = True  # older files say it of the text model only
    return config


def _filled(config: Any, stored: dict[str, Tensor], folder: Path) -> Any:
    """The generative model with these weights; the head alone may be missing, and the table may be larger than told."""
    from transformers import GenerationConfig

    if not stored:
        raise BtoksError(str(folder), "no weights of the backbone in it", "save it whole, with the base's weights")
    kinds = generative_class(config)._model_mapping
    if type(config) not in kinds:
        raise BtoksError(str(folder), f"{config.model_type} is no generative language model", "pass a decoder-only one")
    table = next((value for key, value in stored.items() if key.endswith("embed_tokens.weight")), None)
    if table is not None:
        config.get_text_config().vocab_size = table.shape[0]
    dtype = (next(iter(stored.values())) if table is None else table).dtype
    name = getattr(config, "_name_or_path", "")
    options = {"config": config, "state_dict": stored, "dtype": dtype, "output_loading_info": True}
    try:
        full, report = kinds[type(config)].from_pretrained(None, **options)
    except (RuntimeError, ValueError) as error:
        raise BtoksError(str(folder), first_line(error), "pass the weights its config.json describes") from error
    full.config._name_or_path = name  # loading from memory wrote "None"
    _all_placed(full, set(report["missing_keys"]), set(report["unexpected_keys"]), folder)
    if (folder / "generation_config.json").is_file():
        full.generation_config = GenerationConfig.from_pretrained(folder)
    return full.eval()


def _all_placed(full: Any, missing: set[str], unexpected: set[str], folder: Path) -> None:
    """Refuse weights that do not match the model; a head that is missing, and only that, is taken out."""
    table = full.get_output_embeddings().weight
    head = {name for name, weight in full.named_parameters() if weight is table}
    for what, names in (("unexpected", unexpected), ("missing", missing - head)):
        if names:
            reason = f"{what} weights, such as {min(names)}"
            raise BtoksError(str(folder), reason, "pass the weights its config.json describes")
    if missing:
        full.set_output_embeddings(NoHead())


def _take_tokens(full: Any, tokenizer: Any, tokens: int, folder: Path) -> None:
    """See that the tokenizer has the tokens; their rows are trained and stay as they are."""
    names = {prompts.token_name(place) for place in range(tokens)}
    have = {name for name in tokenizer.get_vocab() if re.fullmatch(r"<\|btok_\d+\|>", name)}
    if have and have != names:
        reason = f"config.json tells of {tokens} bottleneck tokens, the tokenizer has {len(have)}"
        raise BtoksError(str(folder), reason, "pass the tokenizer it was trained with")
    rows = full.get_input_embeddings().weight.shape[0]
    if len(tokenizer) + len(names - have) > rows:
        raise BtoksError(str(folder), f"its table of {rows} rows has none for the tokens", "save it with its tokenizer")
    if not have:
        add_tokens(full, tokenizer, tokens, "keep")


def _placed(stored: Mapping[str, Tensor], full: Any) -> dict[str, Tensor]:
    """Adapter weights under today's names: trained on the body alone, or when the text model had no name of its own."""
    modules = {name for name, _ in full.named_modules()}
    body = full.base_model_prefix
    out = {}
    for key, value in stored.items():
        name = key.removeprefix("base_model.model.")
        ways = (name, f"{body}.{name}", re.sub(f"^{body}\\.", f"{body}.language_model.", name))
        fits = [way for way in ways if re.split(r"\.lora_|\.token_adapter|\.weight$|\.bias$", way)[0] in modules]
        out[f"base_model.model.{(fits or ways)[0]}"] = value
    return out
