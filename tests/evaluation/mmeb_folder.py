"""Writes small local folders of the benchmark's true layout: every format's columns, types, names and media."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from btoks.evaluation.mmeb.registry import Row, labels

Record = dict[str, Any]
COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta", "white", "black", "orange", "gray", "purple", "brown"]
LEGACY = "<|image_1|>\n"
_SIDE = 32
_PAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def colour(place: int) -> Image.Image:
    return Image.new("RGB", (_SIDE, _SIDE), COLOURS[place % len(COLOURS)])


def write(folder: Path, rows: Iterable[Row]) -> Path:
    """A folder that holds all these data sets."""
    for row in rows:
        _FORMATS[row.format](folder, row)
    return folder


def table(
    folder: Path, row: Row, records: Sequence[Record], config: str | None = None, types: Record | None = None
) -> None:
    home = folder / row.repo / (config or "data")
    home.mkdir(parents=True, exist_ok=True)
    schema = pa.Table.from_pylist(list(records)).schema
    for name, kind in (types or {}).items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
    pq.write_table(pa.Table.from_pylist(list(records), schema=schema), home / f"{row.split}-00000-of-00001.parquet")


def picture(path: Path, place: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        colour(place).save(path)


def frames(folder: Path, count: int, place: int, name: str = "frame_{:04d}.jpg") -> None:
    """A folder of frames, all of one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    data = io.BytesIO()
    colour(place).save(data, "JPEG")
    for number in range(1, count + 1):
        (folder / name.format(number)).write_bytes(data.getvalue())


def _image_rows(folder: Path, row: Row) -> None:
    shows, texts = row.format.startswith("image_query"), row.format.endswith("text_candidates")
    captioned = row.name in ("WebQA", "EDIS", "OVEN", "RefCOCO-Matching")
    asks = row.meta_task in ("I-QA", "I-VG") or row.name in ("N24News", "CIRR", "FashionIQ", "OVEN") or not shows
    placeholder = LEGACY if shows or row.name in ("WebQA", "EDIS") else ""
    records = []
    for number in range(2):
        pictures = [f"{row.name}/{(number + place) % 3}.jpg" for place in range(3)]
        blank = ["", "", ""] if number else [" ", " ", " "]
        captions = [f'"caption {place}"' for place in range(3)] if captioned else blank
        if row.name == "RefCOCO-Matching":
            pictures = [f"{row.name}/{number}.jpg"] * 3
        for path in [] if texts else pictures:
            picture(folder / "image-tasks" / path, int(path[-5]))
        own = f"{row.name}/q{number}.jpg" if shows else ""
        if shows:
            picture(folder / "image-tasks" / own, number)
        names = ["kite", "lamp", "boat"]
        records.append(
            {
                "qry_inst": placeholder + str(row.query),
                "qry_text": f"question {number}" if asks else "",
                "qry_img_path": own,
                "tgt_inst": "" if texts else LEGACY + row.candidate,
                "tgt_text": names[number:] + names[:number] if texts else captions,
                "tgt_img_path": ["", "", ""] if texts else pictures,
            }
        )
    table(folder, row, records, str(row.config))


def _labels(folder: Path, row: Row) -> None:
    known = labels()[row.options["labels"]]
    table(folder, row, [{"video_id": f"clip_{number:04d}", "pos_text": known[number]} for number in range(2)])
    for number, count in enumerate((64, 5)):
        frames(folder / row.options["folders"][0] / f"clip_{number:04d}", count, number)


def _own_labels(folder: Path, row: Row) -> None:
    records = [
        {
            "video_id": 101,
            "pos_text": "holding a pen",
            "neg_text": ["holding a pen", "dropping a pen", "lifting a pen"],
        },
        {"video_id": 102, "pos_text": "closing a box", "neg_text": ["opening a box", "closing a box", "pushing a box"]},
    ]
    table(folder, row, records)
    for number, name in enumerate(("101", "102")):
        frames(folder / row.options["folders"][0] / name, 3, number)


QUESTIONS: dict[str, list[Record]] = {
    "Video-MME": [
        {
            "videoID": f"v_{letter}",
            "question": "What is on the table?",
            "options": ["A. Apples.", "B. Bread.", "C. Cups.", "D. Nothing."],
            "answer": answer,
            "question_id": "001-1",
            "domain": "Daily",
            "sub_category": "Home",
        }
        for letter, answer in (("a", "C"), ("b", "A"))
    ],
    "NExTQA": [
        {
            "video": video,
            "question": "why did she stop",
            **dict(zip(("a0", "a1", "a2", "a3", "a4"), ("rain", "tired", "phone", "dog", "bus"), strict=True)),
            "answer": answer,
            "qid": 0,
            "type": "CW",
        }
        for video, answer in ((4001, 2), (4002, 0))
    ],
    "EgoSchema": [
        {
            "video_idx": video,
            "question": "What is the aim?",
            "option": ["A. C cooks.", "B. C sews.", "C. C reads.", "D. C paints.", "E. C walks."],
            "answer": answer,
            "question_idx": "0",
        }
        for video, answer in (("e1", "3"), ("e2", "0"))
    ],
    "MVBench": [{"video": "m1.mp4", "question": "How many times?", "candidates": ["1", "2", "3"], "answer": "2"}],
    "ActivityNetQA": [
        {"video_name": "abc", "question": "is it indoors", "answer": "yes", "question_id": "q1"},
        {"video_name": "def", "question": "is it night", "answer": "no", "question_id": "q2"},
    ],
}


def _choices(folder: Path, row: Row) -> None:
    for config in [row.config] if row.config is None or isinstance(row.config, str) else row.config:
        table(folder, row, QUESTIONS[row.name], config)
        for number, record in enumerate(QUESTIONS[row.name]):
            name = row.options["video"].format_map({**record, "config": config})
            frames(folder / row.options["folders"][0] / name, 2 if row.name == "MVBench" else 9, number, "{:04d}.jpeg")


CAPTIONS: dict[str, list[Record]] = {
    "MSR-VTT": [
        {"video_id": f"video{number}", "video": f"video{number}.mp4", "caption": f"caption {number}"}
        for number in (1, 2)
    ],
    "MSVD": [
        {"video_id": f"video{number}", "video": f"video{number}.mp4", "caption": [f"caption {number}", "another"]}
        for number in (1, 2)
    ],
    "DiDeMo": [{"video": f"test/{number}_clip.mp4", "caption": "a dog runs. the dog jumps."} for number in (1, 2)],
    "VATEX": [{"videoID": f"xyz_{number:06d}", "enCap": ["a child swims", "a kid in water"]} for number in (1, 2)],
    "YouCook2": [
        {"id": f"yc_{number}", "video_path": f"val/301/yc_{number}.mp4", "sentence": "add salt"} for number in (1, 2)
    ],
}


def _videos(folder: Path, row: Row) -> None:
    table(folder, row, CAPTIONS[row.name], str(row.config) if row.config else None)
    for number, record in enumerate(CAPTIONS[row.name]):
        name = Path(row.options["video"].format_map(record))
        frames(folder / row.options["folders"][0] / (name.stem if row.options.get("stem") else name), 12, number)


def _clip_folders(folder: Path, row: Row) -> None:
    records = [
        {"query": "a person opens a drawer.", "video_path": "videos/AB12C_0.0_9.5.mp4"},
        {"query": "a person sits down.", "video_path": "videos/DE34F_2.0_7.0.mp4"},
    ]
    table(folder, row, records)
    for record in records:
        home = folder / row.options["folders"][0] / Path(record["video_path"]).stem
        for place, name in enumerate(["query", "positive_clip", *(f"negative_clip_{number}" for number in range(9))]):
            frames(home / name, 2, place)


def _listed_clips(folder: Path, row: Row) -> None:
    def clips(*names: str) -> list[Record]:
        return [
            {"output_path": f"videos/{name}.mp4", "frame_path": "", "start_time": 0.0, "end_time": 3.0}
            for name in names
        ]

    k7, k8, k9 = "k7_5.0_8.0", "k8_0.0_3.0", "k9_1.0_4.0"
    records = [
        ("When is the cup lifted?", "videos/k1.mp4", clips(k9), clips(k8)),
        ("Find this person again.", "images/movie1_7/frame_12.jpg", clips(k8, k7), clips(k9)),
        ("Who waves?", "", clips(k7), clips(k8, k9)),
    ]
    keys = ("query", "input_frames", "positive_frames", "negative_frames")
    table(folder, row, [dict(zip(keys, record, strict=True)) for record in records])
    home = folder / row.options["folders"][0]
    for place, name in enumerate(("k1", k7, k8, k9)):
        frames(home / "video_frames" / f"videos_{name}", 8, place)
    picture(home / "query_images/movie1_7/frame_12.jpg", 2)


def _pages(folder: Path, row: Row) -> None:
    named = row.name.startswith("VisRAG")
    ids: list[Any] = [f"page_{number}.png" for number in range(4)] if named else [10, 11, 12, 13]
    asked: list[Any] = ["q0", "q1"] if named else [0, 1]
    texts = ["What was the 2012 payout?", "Which plant is shown?"]
    queries: list[Record] = [{"query-id": asked[place], "query": text} for place, text in enumerate(texts)]
    labels_ = [(0, 0, 3), (0, 1, 2), (1, 2, 1), (1, 2, 3), (1, 1, 0)]
    qrels: list[Record] = [{"query-id": asked[q], "corpus-id": ids[page], "score": gain} for q, page, gain in labels_]
    corpus = []
    for place, page in enumerate(ids):
        data = io.BytesIO()
        colour(place).save(data, "PNG")
        corpus.append({"corpus-id": page, "image": {"bytes": data.getvalue(), "path": None}})
    if row.group == "ViDoRe-V2":
        queries = [{**record, "language": "french"} for record in queries]
        corpus = [{**record, "doc-id": "d"} for record in corpus]
        qrels = [{**record, "answer": "", "corpus_range": [10, 11]} for record in qrels]
    table(folder, row, queries, "queries")
    table(folder, row, corpus, "corpus", {"image": _PAGE})
    table(folder, row, qrels, "qrels")


def as_json_lines(folder: Path, row: Row, config: str | None = None) -> None:
    """The same table as JSON lines in place of Parquet."""
    home = folder / row.repo / (config or "data")
    for file in home.glob("*.parquet"):
        lines = (json.dumps(record) for record in pq.read_table(file).to_pylist())
        (home / f"{row.split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        file.unlink()


_FORMATS = {
    "image_query_text_candidates": _image_rows,
    "text_query_image_candidates": _image_rows,
    "image_query_image_candidates": _image_rows,
    "video_query_global_labels": _labels,
    "video_query_local_labels": _own_labels,
    "video_mcq": _choices,
    "text_query_global_videos": _videos,
    "video_query_clip_folder": _clip_folders,
    "video_query_listed_clips": _listed_clips,
    "beir_pages": _pages,
}
