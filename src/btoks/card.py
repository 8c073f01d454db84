"""The model card that travels with a folder: what it is, how to open it, what it was made of and how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from btoks.bottleneck import record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def write(model: SentenceTransformer, folder: Path) -> None:
    """Write `README.md` beside the weights."""
    (folder / "README.md").write_text(text(model), encoding="utf-8")


def text(model: SentenceTransformer) -> str:
    """The card, from what the model records of itself; data and results as whoever trained it noted them."""
    notes = record(model)
    tokens, pooling = notes["tokens"], notes["pooling"]
    stock = all(type(module).__module__.startswith("sentence_transformers.") for module in model)
    opened = "SentenceTransformer" if stock else "btoks.load"
    imported = "from sentence_transformers import SentenceTransformer" if stock else "import btoks"
    takes = ", ".join(each for each in model.modalities if isinstance(each, str) and each != "message")
    return _CARD.format(
        tokens=tokens,
        told=_TOKENS.format(tokens=tokens) if tokens else _NO_TOKENS,
        pooling=pooling["name"] if len(pooling) == 1 else json.dumps(pooling),
        backbone=Path(str(notes["backbone"])).name,
        layout=notes["layout"],
        takes=takes,
        dim=model.get_embedding_dimension(),
        max_tokens=notes["max_tokens"],
        imported=imported,
        opened=opened,
        data=_listed(notes.get("data"), "Not trained: the backbone's weights with untrained bottleneck tokens."),
        results=_listed(notes.get("results"), "None recorded."),
    )


def _listed(found: object, empty: str) -> str:
    if isinstance(found, dict) and found:
        return "\n".join(f"- {name}: {value}" for name, value in found.items())
    if isinstance(found, list) and found:
        return "\n".join(f"- {each}" for each in found)
    return str(found) if found else empty


_TOKENS = """\
Every input ends in {tokens} learned tokens; the embedding is pooled from their last states, and text can be read back
from their keys and values."""
_NO_TOKENS = "The embedding is the last state of the input's last token."

_CARD = """\
---
library_name: sentence-transformers
pipeline_tag: feature-extraction
tags:
- sentence-transformers
- btoks
- bottleneck-tokens
- multimodal
---

# {backbone} with {tokens} bottleneck tokens

An embedding model for {takes}. {told}

| | |
|---|---|
| Bottleneck tokens (K) | {tokens} |
| Pooling | {pooling} |
| Backbone | {backbone} |
| Prompt layout | {layout} |
| Inputs | {takes} |
| Dimensions | {dim} |
| Text budget | {max_tokens} tokens |

```python
{imported}

model = {opened}("path/to/this/folder")
vectors = model.encode([{{"text": "a red fox"}}, {{"text": "a blue car"}}])
```

`btoks doctor path/to/this/folder` embeds the inputs of `probes.json` again and says whether the vectors agree.

## Data

{data}

## Results

{results}
"""
