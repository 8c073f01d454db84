"""Does this folder, or this server, give the vectors the model's author saw? Probes travel with every model and tell.

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
    """One probe: how near the vector is to the one that was saved; a `reason` where there is no vector."""

    probe: str
    cosine: float | None
    difference: float | None
    agrees: bool
    reason: str | None = None


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

    inputs, want_ND, bar = _probes(convert.native(folder))
    have_ND = _embed(load(folder, device=device), inputs)
    if have_ND.shape != want_ND.shape:
        reason = f"vectors of {have_ND.shape[1]} dimensions where {want_ND.shape[1]} were saved"
        raise BtoksError(str(folder), reason, "open the folder the probes belong to")
    return [_finding(given, want, have, bar) for given, want, have in zip(inputs, want_ND, have_ND, strict=True)]


def check_server(url: str, folder: str | Path, *, served: str = "", token: str | None = None) -> list[Finding]:
    """Ask a server for the embeddings of a model's probes and compare; `served` is what the model is called there.

    Any server that speaks OpenAI's embeddings API will do. One that gives a vector a token is pooled here: the mean
    of the last K, K being the model's bottleneck tokens.

    >>> check_server("http://127.0.0.1:8000", "path/to/model")  # doctest: +SKIP
    """
    from btoks import convert, remote

    native = convert.native(folder)
    inputs, want_ND, bar = _probes(native)
    server = remote.Server(remote.endpoint(url), served, token, _tokens(native))
    findings = []
    for given, want_D in zip(inputs, want_ND, strict=True):
        have_D = server.vector(given)
        if isinstance(have_D, str):
            findings.append(Finding(_name(given), None, None, False, have_D))
        elif have_D.shape != want_D.shape:
            reason = f"{len(have_D)} dimensions where {len(want_D)} were saved"
            findings.append(Finding(_name(given), None, None, False, reason))
        else:
            findings.append(_finding(given, want_D, have_D, bar))
    return findings


def _probes(folder: Path) -> tuple[list[dict[str, Any]], np.ndarray, float]:
    """A folder's inputs, their vectors, and the cosine at which a vector agrees."""
    try:
        stored = json.loads((folder / PROBES).read_text(encoding="utf-8"))
        inputs, want_ND = stored["inputs"], np.asarray(stored["embeddings"], np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise BtoksError(str(folder), f"no readable {PROBES}", "save the model with btoks.save") from error
    return inputs, want_ND, _COSINE.get(stored.get("dtype"), _COSINE["bfloat16"])


def _tokens(folder: Path) -> int:
    """How many bottleneck tokens a model has, told without opening it."""
    try:
        return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["btoks"]["tokens"])
    except (OSError, ValueError, KeyError) as error:
        raise BtoksError(str(folder), "its config.json tells of no tokens", "pass the folder of a model") from error


def _name(given: dict[str, Any]) -> str:
    name = " + ".join(key for key in ("image", "video", "text") if key in given)
    return f"{name}: {given['text']}" if "text" in given else name


def _finding(given: dict[str, Any], want: np.ndarray, have: np.ndarray, bar: float) -> Finding:
    norms = float(np.linalg.norm(want) * np.linalg.norm(have))
    cosine = float(want @ have) / norms if norms else 0.0
    return Finding(_name(given), cosine, float(abs(want - have).max()), cosine >= bar)


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
        item["video"] = clip([picture(data) for data in given["video"]], float(given["fps"]))
    return item


def clip(pictures: list[Any], fps: float) -> Any:
    """Pictures of one size as a video of so many frames a second."""
    frames = np.stack([np.asarray(each) for each in pictures])
    count = len(frames)
    metadata = {"fps": fps, "total_num_frames": count, "duration": count / fps, "frames_indices": list(range(count))}
    return {"array": frames, "video_metadata": metadata}


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
