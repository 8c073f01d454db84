"""The six video formats. A video is a folder of frames; prompts stand on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from btoks.evaluation.mmeb import registry
from btoks.evaluation.mmeb.loading import Collected, Found, Loading, clip, picture
from btoks.evaluation.mmeb.media import sub_folders, within
from btoks.evaluation.mmeb.tables import Table
from btoks.evaluation.task import DataError, Entry

_LINE = (" ", "")
_BARE = ("", "")


def video_labels(loading: Loading) -> Found:
    """A video asks for its label, among all labels of the set or among its own."""
    row, known = loading.row, registry.labels().get(loading.row.options.get("labels", ""))
    collected = Collected(local=known is None)
    for label in known or ():
        collected.candidate(Entry(label, text=label, spacing=_BARE))
    tables, root = _tables(loading), loading.home()
    for number, record in enumerate(_records(tables)):
        query = Entry(str(number), instruction=str(row.query), spacing=_LINE, **_shown(loading, root, record))
        own = (
            [] if known else [collected.candidate(Entry(each, text=each, spacing=_BARE)) for each in record["neg_text"]]
        )
        collected.query(query, [record["pos_text"]], own)
    return collected.found(tables)


def video_choices(loading: Loading) -> Found:
    """A video and a question ask for one of a few options, which the question lists."""
    options, collected = loading.row.options, Collected(local=True)
    block, show = options["block"], options["show"]
    tables, root = _tables(loading), loading.home()
    for number, record in enumerate(_records(tables)):
        choices = _choices(options, record)
        listed = block["join"].join(
            block["each"].format(letter=chr(65 + at), option=each) for at, each in enumerate(choices)
        )
        query = Entry(
            str(number),
            text=f"{record['question']}{block['head']}{listed}{block['tail']}",
            instruction=str(loading.row.query),
            spacing=_LINE,
            **_shown(loading, root, record),
        )
        answers = [_answer(show, at, each) for at, each in enumerate(choices)]
        ids = [collected.candidate(Entry(name, text=text, spacing=_BARE)) for name, text in answers]
        right = _right(options["answer"], str(record["answer"]), choices)
        if right is None:
            raise DataError(
                loading.row.name, f"row {number}'s answer {record['answer']!r} is no option", "check its data"
            )
        collected.query(query, [ids[right]], ids)
    return collected.found(tables)


def videos(loading: Loading) -> Found:
    """A caption asks for its video among all videos of the set."""
    row, options, collected = loading.row, loading.row.options, Collected(local=False)
    tables, root = _tables(loading), loading.home()
    for number, record in enumerate(_records(tables)):
        name = _video(options, record)
        if name not in collected.corpus:
            shown = clip(root, name, loading.frames)
            collected.candidate(Entry(name, instruction=row.candidate, spacing=_LINE, **shown))
        caption = record[options["caption"]]
        text = caption if isinstance(caption, str) else caption[0]
        collected.query(Entry(str(number), text=text, instruction=str(row.query), spacing=_LINE), [name])
    return collected.found(tables)


def clip_folders(loading: Loading) -> Found:
    """A video and a text ask for one of the clips that lie beside the video; the right one's folder says so."""
    row, collected = loading.row, Collected(local=True)
    tables, root = _tables(loading), loading.home()
    for number, record in enumerate(_records(tables)):
        path = PurePosixPath(record.get("video_path") or record["clips_dir_path"])
        name = path.stem if record.get("video_path") else path.name
        folder = within(root, name)
        clips = [each for each in sub_folders(folder) if each.casefold() != "query"] if folder is not None else []
        shown = clip(root, f"{name}/query", loading.frames)
        query = Entry(str(number), text=record["query"], instruction=str(row.query), spacing=_LINE, **shown)
        # A folder that is not there still has a right answer, which nothing can find.
        ids = [
            collected.candidate(
                Entry(
                    f"{name}/{each}",
                    instruction=row.candidate,
                    spacing=_LINE,
                    **clip(root, f"{name}/{each}", loading.frames),
                )
            )
            for each in clips or ["positive"]
        ]
        collected.query(query, [each for each in ids if each.casefold().startswith(f"{name}/positive".casefold())], ids)
    return collected.found(tables)


def listed_clips(loading: Loading) -> Found:
    """A text, with a picture, a video or neither, asks for any right one among listed clips, with all their frames."""
    row, collected = loading.row, Collected(local=True)
    tables, root = _tables(loading), loading.home()
    for number, record in enumerate(_records(tables)):
        given = str(record["input_frames"] or "")
        kind, shown = "text", {}
        if given.endswith(".mp4"):
            kind, shown = "video", clip(root, f"video_frames/{_flat(given)}", None)
        elif given:
            kind, shown = "image", picture(root, f"query_{given}")
        query = Entry(str(number), text=record["query"], instruction=dict(row.query)[kind], spacing=_LINE, **shown)  # type: ignore[arg-type]
        sides = [
            [
                collected.candidate(
                    Entry(name, instruction=row.candidate, spacing=_LINE, **clip(root, f"video_frames/{name}", None))
                )
                for name in (_flat(each["output_path"]) for each in record[side])
            ]
            for side in ("positive_frames", "negative_frames")
        ]
        collected.query(query, sides[0], sides[0] + sides[1])
    return collected.found(tables)


def _tables(loading: Loading) -> dict[str, Table]:
    config = loading.row.config
    configs: Sequence[str | None] = [config] if config is None or isinstance(config, str) else config
    return {each or "": loading.table(each) for each in configs}


def _records(tables: Mapping[str, Table]) -> Iterator[dict[str, Any]]:
    for config, table in tables.items():
        for record in table.rows():
            yield {**record, "config": config}


def _video(options: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The name of a row's frame folder."""
    name = str(options["video"]).format_map(record)
    return PurePosixPath(name).stem if options.get("stem") else name


def _shown(loading: Loading, root: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    return clip(root, _video(loading.row.options, record), loading.frames)


def _choices(options: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    if "choices" in options:
        return list(options["choices"])
    columns = options["options"]
    return list(record[columns]) if isinstance(columns, str) else [record[column] for column in columns]


def _answer(show: str, at: int, option: str) -> tuple[str, str]:
    """An option's name and text as a candidate."""
    if show == "bare":
        # The published rule, which keeps only the last letter of an option that has no letter in front.
        return option, option[option.find(". ") :].strip(". ")
    text = f"({chr(65 + at)}) {option}" if show == "lettered" else option
    return text, text


def _right(rule: str, answer: str, choices: Sequence[str]) -> int | None:
    if rule == "text":
        return choices.index(answer) if answer in choices else None
    place = ord(answer) - 65 if rule == "letter" and len(answer) == 1 else int(answer) if answer.isdigit() else -1
    return place if 0 <= place < len(choices) else None


def _flat(path: str) -> str:
    return path.replace("/", "_").partition(".mp4")[0]
