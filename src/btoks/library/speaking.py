"""Who answers: a model with bottleneck tokens, which reads what its layers hold, or any generative one, by chat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Chat:
    """A generative model as it came, spoken to through its own chat template."""

    full: Any
    processor: Any

    def say(self, item: dict[str, Any], question: str, max_new_tokens: int) -> str:
        """What it says to a question about an item; greedy."""
        import torch

        from btoks.prompts import forgeable, neutralise, tokenizer_of

        tokenizer, sees = tokenizer_of(self.processor), hasattr(self.processor, "image_processor")
        pictures = [{"type": "image", "image": each} for each in item.get("image") or ()]
        if pictures and not sees:
            raise BtoksError("answering model", "it takes texts only", "ask among texts, or take another model")
        text = neutralise(f"{item['text']}\n\n{question}", forgeable(self.processor))
        content: Any = [*pictures, {"type": "text", "text": text}] if sees else text
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self.full.device)
        with torch.inference_mode():
            out_BT = self.full.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        said: str = tokenizer.decode(out_BT[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return said


def opened(model: SentenceTransformer | str | Path, device: str | None) -> SentenceTransformer | Chat:
    """A model that answers: one of ours, loaded or to be loaded, or any generative one of transformers."""
    if not isinstance(model, str | Path):
        return model
    from btoks.convert import BUNDLED, located, recognise
    from btoks.folder import load

    if str(model) == BUNDLED or recognise(located(model)) is not None:
        return load(model, device=device)
    return _chat(located(model), device)


def _chat(folder: Path, device: str | None) -> Chat:
    import torch
    from transformers import AutoConfig, AutoProcessor

    from btoks.bottleneck import generative_class

    try:
        config = AutoConfig.from_pretrained(folder)
        full = generative_class(config).from_pretrained(folder, config=config, dtype="auto")
        processor = AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = f"it is no generative model ({str(error).strip().partition(chr(10))[0]})"
        raise BtoksError(str(folder), reason, "pass the folder or hub id of one") from error
    return Chat(full.to(device or ("cuda" if torch.cuda.is_available() else "cpu")), processor)


def say(model: SentenceTransformer | Chat, item: dict[str, Any], question: str, max_new_tokens: int) -> str:
    """What a model says to a question about an item, all of it in sight."""
    if isinstance(model, Chat):
        return model.say(item, question, max_new_tokens)
    import torch

    from btoks.condensation import memory, read
    from btoks.inputs import fit

    with torch.inference_mode():
        held = memory(model, model.preprocess([fit(model, item)]), full=True)[1]
    return read(model, held, question, max_new_tokens=max_new_tokens)[0]
