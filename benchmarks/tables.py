"""Write the tables of benchmarks into the pages that show them, from the files in ``results/``.

    python benchmarks/tables.py [--check]

A page shows a table between two comments, and everything between them is replaced::

    <!-- table of benchmarks/tables.py: peers -->
    <!-- end of table -->

``--check`` changes nothing, and exits with 1 if a page differs from its results. The files hold accuracies and
calibration errors (ECE) in percent, as the scripts named in README.md print them.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGES = ("README.md", "docs/index.md", "docs/benchmarks.md")
TOOLKITS = {
    "visiongraft": "visiongraft",
    "fastai": "fastai",
    "timm_style": "timm style",
    "probe": "scikit-learn's probe",
}
START = "<!-- table of benchmarks/tables.py: {} -->\n"
BLOCK = re.compile(
    START.format(r"([\w-]+)") + r"(.*?)<!-- end of table -->", re.MULTILINE | re.DOTALL
)
Row = dict[str, str]


def peers() -> str:
    """Return the accuracy of each toolkit on each dataset, with means and our lead on the best other."""
    lines = table_head(["images", "dataset", *TOOLKITS.values(), "lead"])
    for (group, images), rows in _groups(_read("peers.csv")):
        by_name = [list(runs) for _, runs in groupby(rows, key=lambda row: row["dataset"])]
        for runs in by_name:
            lines.append(
                table_row([images, runs[0]["dataset"], *with_lead([_values(r) for r in runs])])
            )
        means = [_means(runs) for runs in by_name]
        lines.append(table_row([images, f"mean, {group}", *with_lead(means)]))
        errors = [
            row for row in _read("peers-calibration.csv") if (row["group"], row["images"]) == (group, images)
        ]  # fmt: skip
        lines.append(table_row([images, f"ECE, {group}", *_texts(_means(errors)), ""]))
    return "\n".join(lines)


def peers_summary() -> str:
    """Return the means over the datasets on which no default was chosen."""
    lines = table_head(["mean over five datasets", *TOOLKITS.values()])
    for what, file in (("accuracy", "peers.csv"), ("calibration error", "peers-calibration.csv")):
        for (group, images), rows in _groups(_read(file)):
            if group == "held out":
                lines.append(table_row([f"{what}, {images} images", *_texts(_means(rows))]))
    return "\n".join(lines)


def head_start() -> str:
    """Return accuracy, calibration error and seconds of two linear classifiers on each dataset."""
    rows = _read("head-start.csv")
    values = list(rows[0])[2:]
    ours, theirs = "closed form", "logistic regression"
    measured = ["accuracy", "ECE", "seconds"]
    titles = [f"{ours}: accuracy", *measured[1:], f"{theirs}: accuracy", *measured[1:]]
    lines = table_head(["images", "dataset", *titles])
    for images, group in groupby(rows, key=lambda row: row["images"]):
        found = list(group)
        lines += [
            table_row([images, row["dataset"], *(row[key] for key in values)]) for row in found
        ]
        means = [
            f"{fmean(float(row[key]) for row in found):.{2 if 'seconds' in key else 1}f}"
            for key in values
        ]
        lines.append(table_row([images, "mean", *means]))
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "peers": peers,
    "peers-summary": peers_summary,
    "head-start": head_start,
}


def filled(page: str) -> str:
    """Return the text of a page with its tables made anew."""
    return BLOCK.sub(
        lambda found: f"{START.format(found[1])}\n{TABLES[found[1]]()}\n\n<!-- end of table -->",
        page,
    )


def _read(name: str) -> list[Row]:
    with open(RESULTS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _groups(rows: list[Row]) -> list[tuple[tuple[str, str], list[Row]]]:
    found = groupby(rows, key=lambda row: (row["group"], row["images"]))
    return [(key, list(group)) for key, group in found]


def _values(row: Row) -> list[float]:
    return [float(row[toolkit]) for toolkit in TOOLKITS]


def _means(rows: Sequence[Row]) -> list[float]:
    return [fmean(values) for values in zip(*map(_values, rows), strict=True)]


def _texts(values: Iterable[float]) -> list[str]:
    return [f"{value:.1f}" for value in values]


def with_lead(rows: Sequence[Sequence[float]]) -> list[str]:
    """Return the means of rows, and our lead on the best other with its standard error over the rows."""
    means = [fmean(values) for values in zip(*rows, strict=True)]
    best = max(range(1, len(means)), key=means.__getitem__)
    leads = [row[0] - row[best] for row in rows]
    error = f" ± {stdev(leads) / len(leads) ** 0.5:.1f}" if len(leads) > 1 else ""
    return [*_texts(means), f"{fmean(leads):+.1f}{error}"]


def table_head(titles: Sequence[str]) -> list[str]:
    """Return the first two lines of a table in Markdown."""
    return [table_row(titles), table_row(["---"] * len(titles))]


def table_row(cells: Iterable[str]) -> str:
    """Return a line of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill all pages, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if a page is old"
    )
    given = parser.parse_args(arguments)
    old = []
    for name in PAGES:
        page = ROOT / name
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            old.append(name)
            if not given.check:
                page.write_text(filled(text), encoding="utf-8")
    if old:
        print(
            f"{'differs from its results' if given.check else 'written'}: {', '.join(old)}",
            file=sys.stderr,
        )
    return int(given.check and bool(old))


if __name__ == "__main__":
    sys.exit(main())
