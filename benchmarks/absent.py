"""Does a search say "nothing here matches" when nothing does, and only then?

    python benchmarks/absent.py [--model btoks-mini] [--library DIR] [--json FILE]

The sample that comes with btoks is indexed (into DIR, or a folder that is thrown away) and asked, at the default least
score and by text alone, for
    present   what each of its files shows, by a caption; the file, and page, it belongs to is known
    absent    things that are in none of its files, of the same kinds: pictures, dishes, places, how-tos
For both: the share of queries with any hit; for present ones, the share whose own file is among the 10 hits, at the
default and with every hit shown. A good search has few hits for absent things, and loses few present ones to that.
The captions may have been part of a model's training; the absent queries stand nowhere else in btoks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from btoks.bundled import Caption, captions, sample
from btoks.library import Library

K = 10
SHARES = (0.1, 0.5, 0.9)
ABSENT = tuple(
    """the flag of an imaginary pirate republic|a photograph of a forklift in a warehouse|a ballerina on a stage
a photograph of a peacock|the recipe for Korean kimchi stew|how to make beef Wellington
an icon of: a submarine|an icon of: a guillotine|a violin maker in his workshop|annual report of an insurance company
how to replace the clutch of a lorry|the rules of cricket|biography of a Renaissance sculptor|a camel in the desert
a photograph of a rhinoceros at a waterhole|an X-ray image of a broken wrist|an aerial view of container terminals
a wedding couple under an arch|a toddler riding a tricycle|firefighters on a ladder|a hang glider above a cliff
the treaty that ended the Thirty Years War|an introduction to quantum field theory|the tax return of a bakery
lecture notes on Byzantine mosaics|the timetable of ferries to Iceland|a saddler's tools|a row of typewriters
how to knit a pair of mittens|how to train a parrot to speak|a contract for renting a grand piano|chess endgame studies
a video of a penalty shoot-out|a video of a potter at the wheel|a video of a welding robot|a judge in a wig
a photograph of a blacksmith at his anvil|the inside of a mosque|a table laid for a state banquet|an abandoned coal mine
the genome of the honey bee|the grammar of ancient Greek verbs|a survey of voters in Norway|a map of the Paris sewers
a street musician with an accordion|a herd of zebras|a courtroom sketch|an ultrasound of a kidney
minutes of a parents' evening|a patent for a folding umbrella|care instructions for orchids|a crossword puzzle
the manual of a dishwasher|prices of second-hand motorcycles|a football team lifting a trophy|a bride's bouquet
a tattoo of a dragon|a horse-drawn carriage|a glass of red wine by a fireplace|a beekeeper with a smoker
a court ruling on noise from a nightclub|a floor plan of a two-room flat|a scarecrow in a maize field""".replace(
        "\n", "|"
    ).split("|")
)


def main() -> None:
    """Index the sample, ask both kinds of queries, print the rates, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="btoks-mini")
    parser.add_argument("--library", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        place = options.library or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "library"
        there = (place / "library.json").is_file()
        library = Library.open(place) if there else Library.create(place, model=options.model)
        library.add([path for path in sorted(sample().iterdir()) if path.is_dir()])
        rows, present = library.stats()["rows"], asked_of_present(library)
        absent = {"queries": len(ABSENT), **rates([library.search(query, K) for query in ABSENT])}
    record = {"model": options.model, "k": K, "rows": rows, "present": present, "absent": absent}
    print(f"{'':<10}{'queries':>9}{'any hit':>9}{'own file in 10':>16}{'with every hit shown':>22}")
    print(
        f"{'present':<10}{present['queries']:>9}{present['any_hit']:>9.1%}{present['found']:>16.1%}"
        f"{present['found_unlimited']:>22.1%}"
    )
    print(f"{'absent':<10}{absent['queries']:>9}{absent['any_hit']:>9.1%}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def asked_of_present(library: Library) -> dict[str, Any]:
    """The rates of the captions."""
    every = captions()
    kept = [library.search(each.texts[0], K) for each in every]
    shown = [library.search(each.texts[0], K, min_score=0) for each in every]
    return {
        "queries": len(every),
        **rates(kept),
        "found": found(every, kept),
        "found_unlimited": found(every, shown),
    }


def rates(hits: list[list[Any]]) -> dict[str, Any]:
    """How many queries find anything, and the best scores of those that do."""
    best = [each[0].score for each in hits if each]
    spread = {f"best_score_p{round(100 * share)}": float(np.quantile(best, share)) for share in SHARES if best}
    return {"any_hit": len(best) / len(hits), **spread}


def found(every: list[Caption], hits: list[list[Any]]) -> float:
    """The share of captions whose own file, and page, is among the hits."""
    own = (
        any(hit.path == str(caption.path) and caption.page in (None, hit.page) for hit in each)
        for caption, each in zip(every, hits, strict=True)
    )
    return sum(own) / len(every)


if __name__ == "__main__":
    main()
