"""Write the pages of docs/ that are generated, or check with `--check` that they are as they would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from btoks.methods import cards, families

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
_HEAD = """\
# Methods

Made from the methods' own cards by `make docs`. `btoks methods` prints the same; `btoks methods --json` has it as JSON.
A family is a folder of `btoks.methods`, and a method is one file in it. Make one by name, or by name with settings:

```python
from btoks import methods

methods.create("pooling", "mean")
methods.create("pooling", {"name": "weighted", "slope": 0.5})
```

Papers are given by arXiv id or DOI. A trained method needs a model that was trained with it. A method
that needs the query cannot be used while indexing.
"""


def methods_page() -> str:
    """The table of methods, a section a family."""
    lines = [_HEAD]
    for family in families():
        found = cards(family)
        more = ["inputs", "cost"] if any(card.cost for card in found) else []
        columns = ["name", "title", "paper", "stage", "trained", "needs the query", *more]
        lines += [f"## {family}\n", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for card in found:
            title = f"{card.system}: {card.title}" if card.system else card.title
            marks = ["yes" if mark else "no" for mark in (card.trained, card.query_aware)]
            last = [", ".join(card.takes), card.cost] if more else []
            lines.append(f"| {' | '.join([f'`{card.name}`', title, card.paper, card.stage, *marks, *last])} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write, or compare."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(methods_page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != methods_page():
        print(f"{PAGE.name} is not up to date: run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
