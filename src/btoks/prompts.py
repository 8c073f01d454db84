"""The prompt of a retrieval model as a chat template: visuals first, then text, then the bottleneck tokens.

The layout lives in the model's folder, so that any engine that renders the template serves the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from btoks.errors import BtoksError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

LAYOUTS = ("btoks", "vlm2vec", "chat")
_MARK = "\u00a7text\u00a7"
_DEFAULT_INSTRUCTION = "Represent the user's input."


def token_name(place: int) -> str:
    """The vocabulary entry of one bottleneck token.

    >>> token_name(0)
    '<|btok_0|>'
    """
    return f"<|btok_{place}|>"


@dataclass(frozen=True)
class Visuals:
    """What stands for one image and one video in a rendered prompt; None where the model takes none."""

    image: str | None
    video: str | None


def template(
    processor: ProcessorMixin | PreTrainedTokenizerBase,
    tokens: int,
    layout: str = "btoks",
    frames: Sequence[tuple[str, str]] = (),
) -> str:
    """The Jinja chat template of a layout for this processor.

    `btoks`: `[visual]⏎ … [instruction text]⏎ [btoks]`, every visual in its boundary tokens on a line of its own.
    `vlm2vec`: as VLM2Vec-V2 was trained, without boundary tokens: `[image]⏎[instruction text]⏎`,
    `[video] [instruction text]`.
    `chat`: instruction in the system turn, visuals and text in the user turn, then the opening of the assistant's, all
    as the model's own chat template writes them.
    With `frames` the text stands in each of them, (what is before it, what is after it), one after the other.
    """
    if layout not in LAYOUTS:
        raise BtoksError(f"layout {layout!r}", "there is none", did_you_mean(layout, LAYOUTS))
    if frames and layout != "btoks":
        raise BtoksError(f"layout {layout!r}", "it frames texts in its own way", "choose the layout 'btoks'")
    tokenizer = tokenizer_of(processor)
    visuals = visuals_of(processor)
    if layout == "vlm2vec":
        visuals = Visuals(*(getattr(processor, f"{kind}_token", None) for kind in ("image", "video")))
    body = {"btoks": _BTOKS, "vlm2vec": _VLM2VEC, "chat": _CHAT}[layout]
    slots = {
        "@BOS@": opening(tokenizer),
        "@END@": str(tokenizer.eos_token),
        "@IMAGE@": visuals.image or "",
        "@VIDEO@": visuals.video or "",
        "@TOKENS@": "".join(token_name(place) for place in range(tokens)),
        "@DEFAULT@": _DEFAULT_INSTRUCTION,
    }
    if layout == "chat":
        slots |= dict(zip(("@HEAD@", "@TURN@", "@ANSWER@"), turns_of(processor), strict=True))
    text = _NEUTRAL + (body.replace(_ENDED, _framed(frames)) if frames else body)
    for slot, value in slots.items():
        text = text.replace(slot, _literal(value))
    return text.replace("@FORGED@", "[" + ", ".join(_literal(each) for each in forgeable(processor)) + "]")


def _framed(frames: Sequence[tuple[str, str]]) -> str:
    """The end of the layout with the text in frames, each with the bottleneck tokens; an end of text parts them."""
    opened = ["", *(" @END@ ~ @BOS@ ~" for _ in frames[1:])]
    pieces = (
        f"{bos} {_literal(before)} ~ got.text ~ {_literal(after)} ~ @TOKENS@"
        for bos, (before, after) in zip(opened, frames, strict=True)
    )
    return "{{-" + " ~".join(pieces) + " -}}"


def opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-sequence token where the tokenizer puts one in front of every text, or nothing."""
    first = tokenizer("a").input_ids[:1]
    return str(tokenizer.bos_token) if first and first[0] == tokenizer.bos_token_id else ""


def forgeable(processor: ProcessorMixin | PreTrainedTokenizerBase) -> list[str]:
    """The strings that would turn into special or added tokens if a user's text spelled them, longest first.

    Runs of white space are left out: some tokenizers keep them as added tokens, and they are ordinary text. A string
    that can overlap itself stands twice, since one pass of replacement leaves its odd copies.
    """
    tokenizer = tokenizer_of(processor)
    found = set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens)
    for name in ("image_token", "video_token", "boi_token", "eoi_token", "image_seq_token", "global_img_token"):
        value = getattr(processor, name, None)
        found |= {value} if isinstance(value, str) else set()
    kept = sorted((each for each in found if len(each) > 1 and not each.isspace()), key=lambda e: (-len(e), e))
    return [each for each in kept for _ in range(2 if _overlaps_itself(each) else 1)]


def visuals_of(processor: ProcessorMixin | PreTrainedTokenizerBase) -> Visuals:
    """What the processor's own chat template writes for an image and a video, boundary tokens included.

    Found by rendering it with one and with two of them: the difference is the piece. No backbone is named. A video
    processor that hands its frames over as pictures is not one that takes videos: `fit` does the same, and batches.
    """
    takes = list(getattr(processor, "get_attributes", list)())
    if "video_processor" in takes and "pixel_values" in processor.video_processor.model_input_names:
        takes.remove("video_processor")
    pieces: list[str | None] = []
    for kind in ("image", "video"):
        piece = _rendered_piece(processor, kind) if f"{kind}_processor" in takes else None
        token = getattr(processor, f"{kind}_token", None)
        if f"{kind}_processor" in takes and (piece is None or (token and _brings_boundaries(processor, kind, piece))):
            piece = token
        pieces.append(piece)
    return Visuals(*pieces)


def speech_of(processor: ProcessorMixin | PreTrainedTokenizerBase) -> tuple[str, str]:
    """The prefix that opens the model's own turn and the suffix that ends it, from its chat template.

    >>> # ChatML: ('<|im_start|>assistant\\n', '<|im_end|>')
    """
    tokenizer = tokenizer_of(processor)
    ends = str(tokenizer.eos_token)
    user = {"role": "user", "content": _parts(processor, "u")}
    asked, opened = (_render(processor, [user], add_generation_prompt=flag) for flag in (False, True))
    if asked is None or opened is None or not opened.startswith(asked) or len(opened) == len(asked):
        return ends, ends
    answered = _render(processor, [user, {"role": "assistant", "content": _parts(processor, _MARK)}])
    tail = answered.rpartition(_MARK)[2].strip() if answered and _MARK in answered else ""
    return opened[len(asked) :], tail or ends


def turns_of(processor: ProcessorMixin | PreTrainedTokenizerBase) -> tuple[str, str, str]:
    """What the own chat template writes before the system text, between it and the user's, and after that.

    >>> # ChatML: ('<|im_start|>system\\n', '<|im_end|>\\n<|im_start|>user\\n', '<|im_end|>\\n<|im_start|>assistant\\n')
    """
    said = [{"role": role, "content": _parts(processor, _MARK)} for role in ("system", "user")]
    pieces = (_render(processor, said, add_generation_prompt=True) or "").split(_MARK)
    if len(pieces) != 3:
        raise BtoksError("layout 'chat'", "the model's chat template has no system turn", "choose another layout")
    return pieces[0], pieces[1], pieces[2]


def tokenizer_of(processor: ProcessorMixin | PreTrainedTokenizerBase) -> Any:
    """The tokenizer of a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def _parts(processor: Any, text: str, kinds: Sequence[str] = ()) -> Any:
    if not hasattr(processor, "tokenizer"):
        return text
    return [*({"type": kind} for kind in kinds), {"type": "text", "text": text}]


def _render(processor: Any, messages: list[dict[str, Any]], **options: Any) -> str | None:
    """A rendering of the processor's own chat template; None where it has none or the template refuses."""
    from jinja2 import TemplateError

    if not getattr(processor, "chat_template", None):
        return None
    try:
        return str(processor.apply_chat_template(messages, tokenize=False, **options))
    except (TemplateError, TypeError, ValueError, KeyError):
        return None


def _rendered_piece(processor: Any, kind: str) -> str | None:
    one, two = (_render(processor, [{"role": "user", "content": _parts(processor, _MARK, [kind] * n)}]) for n in (1, 2))
    if one is None or two is None or len(two) <= len(one):
        return None
    shared = next((place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))
    return two[shared : shared + len(two) - len(one)].strip() or None


def _brings_boundaries(processor: Any, kind: str, piece: str) -> bool:
    """Whether the processor writes the boundary tokens itself around the bare token, so that ours would double."""
    import numpy as np

    opening = piece.partition(getattr(processor, f"{kind}_token"))[0]
    if not opening or kind != "video":
        return False
    metadata = {"fps": 1.0, "total_num_frames": 2, "duration": 2.0, "frames_indices": [0, 1]}
    options = {"videos_kwargs": {"do_sample_frames": False, "video_metadata": [metadata]}}
    out = processor(text=[processor.video_token], videos=[np.zeros((2, 64, 64, 3), np.uint8)], **options)
    return opening in processor.tokenizer.decode(out["input_ids"][0])


def _overlaps_itself(text: str) -> bool:
    return any(text.startswith(text[start:]) for start in range(1, len(text)))


def _literal(text: str) -> str:
    """A Jinja string literal: Jinja eats a newline that follows a tag, but never one inside a literal."""
    return json.dumps(text, ensure_ascii=False)


def neutralise(text: str, forged: Iterable[str]) -> str:
    """What the template does to a user's text: a space after the first character of every forged token.

    >>> neutralise("see <|btok_0|>", ["<|btok_0|>"])
    'see < |btok_0|>'
    """
    for each in forged:
        text = text.replace(each, f"{each[0]} {each[1:]}")
    return text


_NEUTRAL = """\
{%- macro neutral(text) -%}
    {%- set out = namespace(text=text) -%}
    {%- for forged in @FORGED@ -%}
        {%- if forged in out.text -%}
            {%- set out.text = out.text | replace(forged, forged[0] ~ ' ' ~ forged[1:]) -%}
        {%- endif -%}
    {%- endfor -%}
    {{- out.text -}}
{%- endmacro -%}
{%- macro visual(kind) -%}
    {%- set piece = {'image': @IMAGE@, 'video': @VIDEO@}.get(kind) -%}
    {{- piece if piece else raise_exception('this model takes no ' ~ kind) -}}
{%- endmacro -%}
"""

_COLLECT = """\
{%- set got = namespace(text='', visual=false, video=false) -%}
{%- for message in messages -%}
    {%- set content = message['content'] -%}
    {%- set content = [{'type': 'text', 'text': content}] if content is string else content -%}
    {%- for part in content -%}
        {%- if part['type'] == 'text' -%}
            {%- set glue = ' ' if got.text and part['text']@@GLUE@@ else '' -%}
            {%- set got.text = got.text ~ glue ~ neutral(part['text']) -%}
        {%- else -%}
            {{- visual(part['type'])@@AFTER@@ -}}
            {%- set got.visual = true -%}
            {%- set got.video = part['type'] == 'video' or got.video -%}
        {%- endif -%}
    {%- endfor -%}
{%- endfor -%}
"""

_ENDED = "{{- (got.text ~ '\\n' if got.text or not got.visual else '') ~ @TOKENS@ -}}"
_BTOKS = (
    "{{- @BOS@ -}}\n"
    + _COLLECT.replace("@@AFTER@@", " ~ '\\n'").replace("@@GLUE@@", " and not got.text[-1].isspace()")
    + "{%- set got.text = got.text.rstrip('\\n') -%}\n"
    + _ENDED
)

# Pictures: everything on lines, no space left before a line's end. Video and bare text: one line, nothing after it.
# A text that begins with white space stands behind its visual as it is: some prompts were trained with other spaces.
_VLM2VEC = (
    "{{- @BOS@ -}}\n"
    + _COLLECT.replace("@@AFTER@@", "").replace("@@GLUE@@", "")
    + """\
{%- if got.visual and got.text[:1].isspace() -%}
    {{- got.text -}}
{%- elif got.visual and not got.video -%}
    {{- '\\n' ~ (got.text | replace(' \\n', '\\n') ~ '\\n' if got.text else '') -}}
{%- else -%}
    {{- (' ' if got.visual and got.text else '') ~ got.text -}}
{%- endif -%}
{{- @TOKENS@ -}}
"""
)

_CHAT = """\
{%- set lead = namespace(text='') -%}
{%- for message in messages if message['role'] == 'system' -%}
    {%- set lead.text = message['content'] if message['content'] is string else message['content'][0]['text'] -%}
{%- endfor -%}
{{- @HEAD@ ~ neutral((lead.text | trim) or @DEFAULT@) ~ @TURN@ -}}
{%- for message in messages if message['role'] != 'system' -%}
    {%- set content = message['content'] -%}
    {%- set content = [{'type': 'text', 'text': content}] if content is string else content -%}
    {%- for part in content if part['type'] != 'text' -%}
        {{- visual(part['type']) -}}
    {%- endfor -%}
    {%- for part in content if part['type'] == 'text' -%}
        {{- neutral(part['text']) -}}
    {%- endfor -%}
{%- endfor -%}
{{- @ANSWER@ ~ @TOKENS@ -}}
"""
