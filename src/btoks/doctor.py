"""Does this folder, on this machine, give the vectors its author saw? Probes travel with every model and tell.

`probes.json` holds a few inputs (pictures inside, as PNG) and the embeddings they had when the model was saved.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from btoks.errors import BtoksError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PROBES = "probes.json"
_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "float16": 0.9995}


@dataclass(frozen=True)
class Finding:
    """One probe: how near the vector is to the one that was saved."""

    probe: str
    cosine: float
    difference: float
    agrees: bool


def write_probes(model: SentenceTransformer, folder: Path) -> None:
    """Write the probes that the model can take, with its embeddings of them."""
    inputs = [each for each in _inputs() if set(each) - {"fps"} <= set(model.modalities)]
    vectors_ND = _embed(model, inputs)
    text = json.dumps(
        {
            "dtype": str(model.dtype).removeprefix("torch."),
            "inputs": inputs,
            "embeddings": [[float(f"{value:.7g}") for value in row] for row in vectors_ND.tolist()],
        }
    )
    (folder / PROBES).write_text(text, encoding="utf-8")


def check(folder: str | Path, *, device: str | None = None) -> list[Finding]:
    """Embed a folder's probes again and compare.

    >>> all(finding.agrees for finding in check("path/to/model"))  # doctest: +SKIP
    True
    """
    from btoks import convert, load

    file = convert.native(folder) / PROBES
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        inputs, want_ND = stored["inputs"], np.asarray(stored["embeddings"], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise BtoksError(str(folder), f"no readable {PROBES}", "save the model with btoks.save") from error
    have_ND = _embed(load(folder, device=device), inputs)
    if have_ND.shape != want_ND.shape:
        reason = f"vectors of {have_ND.shape[1]} dimensions where {want_ND.shape[1]} were saved"
        raise BtoksError(str(folder), reason, "open the folder the probes belong to")
    bar = _COSINE.get(stored.get("dtype"), _COSINE["bfloat16"])
    return [_finding(given, want, have, bar) for given, want, have in zip(inputs, want_ND, have_ND, strict=True)]


def _finding(given: dict[str, Any], want: np.ndarray, have: np.ndarray, bar: float) -> Finding:
    norms = float(np.linalg.norm(want) * np.linalg.norm(have))
    cosine = float(want @ have) / norms if norms else 0.0
    name = " + ".join(key for key in ("image", "video", "text") if key in given)
    return Finding(
        f"{name}: {given['text']}" if "text" in given else name, cosine, float(abs(want - have).max()), cosine >= bar
    )


def _embed(model: SentenceTransformer, inputs: list[dict[str, Any]]) -> np.ndarray:
    from btoks.encode import encode_stream

    found = [out.embedding for out in encode_stream(model, [_decoded(each) for each in inputs], prompt="")]
    return np.stack([vector for vector in found if vector is not None])


def _decoded(given: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image

    def picture(data: str) -> Any:
        return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB")

    item: dict[str, Any] = {key: given[key] for key in ("text",) if key in given}
    if "image" in given:
        item["image"] = picture(given["image"])
    if "video" in given:
        frames = np.stack([np.asarray(picture(data)) for data in given["video"]])
        count, fps = len(frames), float(given["fps"])
        metadata = {
            "fps": fps,
            "total_num_frames": count,
            "duration": count / fps,
            "frames_indices": list(range(count)),
        }
        item["video"] = {"array": frames, "video_metadata": metadata}
    return item


def _inputs() -> list[dict[str, Any]]:
    """Words, other scripts and marks, a picture, a picture with a question, four frames."""
    disc, bars = _drawn(0), _drawn(1)
    return [
        {"text": "a red fox runs through the snow"},
        {"text": "Eiffelturm 🗼 2024 — 東京, ½ price; Привет!"},
        {"image": disc},
        {"image": bars, "text": "How many bars are there?"},
        {"video": [_drawn(shift) for shift in (0, 3, 6, 9)], "fps": 2.0},
    ]


def _drawn(shift: int) -> str:
    """A small picture with smooth and sharp parts, as a data URL; the same bytes everywhere."""
    from PIL import Image

    y, x = np.mgrid[0:64, 0:96]
    disc = ((x - 30 - 4 * shift) ** 2 + (y - 32) ** 2 < 300) * 160
    pixels = np.stack([disc + x, 2 * y + 10 * ((x // 8) % 2), 255 - 2 * x - disc // 2], axis=-1).clip(0, 255)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
