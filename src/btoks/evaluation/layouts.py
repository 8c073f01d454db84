"""How an entry reaches a model: what goes into the prompt slot, what into the item; and a look at what came of it.

The model's own template joins them. What is decided here is only what a layout leaves open:
- `btoks`: instruction in the prompt slot, text as it is.
- `chat`: the same, but candidates go without instruction, since such models have a default for them.
- `vlm2vec`: trained on the benchmark's own strings; where these have other white space than the template would write,
  the whole text is handed over as it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from btoks.bottleneck import record
from btoks.inputs import fit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from btoks.evaluation.task import Entry

Side = Literal["query", "document"]


def prompted(entry: Entry, layout: str, side: Side) -> tuple[str, dict[str, Any]]:
    """The prompt and the undecoded item of an entry.

    >>> from btoks.evaluation.task import Entry
    >>> prompted(Entry("q", text="a dog", instruction="Find it:"), "btoks", "query")
    ('Find it:', {'text': 'a dog'})
    """
    media = {kind: value for kind, value in (("image", entry.image), ("video", entry.video)) if value is not None}
    if layout == "vlm2vec" and entry.spacing is not None:
        # Nothing at all would leave such a model, which has no tokens of its own, without a position to pool.
        own = verbatim(entry) or " "
        if own != _by_default(entry):
            return "", {"text": own, **media}
    instruction = "" if layout == "chat" and side == "document" else entry.instruction
    return instruction, {"text": entry.text, **media} if entry.text or not media else media


def verbatim(entry: Entry) -> str:
    """All that stands behind the visual in the benchmark's own prompt.

    >>> from btoks.evaluation.task import Entry
    >>> verbatim(Entry("q", text="a dog", instruction="Find it:", image="a.png", spacing=("\\n", "\\n")))
    '\\nFind it: a dog\\n'
    """
    after, end = entry.spacing or ("", "")
    body = " ".join(part for part in (entry.instruction, entry.text) if part)
    if entry.image is not None or entry.video is not None:
        body = after + body
    return (body + end).replace(" \n", "\n") if after == "\n" else body + end


def _by_default(entry: Entry) -> str:
    """What the template writes behind the visual: a picture's text on lines of its own, a video's on the same line."""
    body = " ".join(part for part in (entry.instruction, entry.text) if part)
    if entry.image is not None:
        return "\n" + body.replace(" \n", "\n") + "\n"
    return f" {body}" if entry.video is not None else body


def rendered(model: SentenceTransformer, prompt: str, item: dict[str, Any]) -> str:
    """What the model is given for a decoded item, every token spelled out, runs of one token as `token×count`."""
    features = model.preprocess([fit(model, item)], prompt=prompt)
    ids = features["input_ids"][0][features["attention_mask"][0].bool()]
    text = str(model.tokenizer.decode(ids, skip_special_tokens=False))
    specials = "|".join(sorted(map(re.escape, model.tokenizer.all_special_tokens), key=len, reverse=True))
    if not specials:
        return text
    return re.sub(rf"({specials})\1+", lambda run: f"{run[1]}×{len(run[0]) // len(run[1])}", text)


def layout_of(model: SentenceTransformer) -> str:
    """The layout that the model's folder names."""
    return str(record(model)["layout"])
