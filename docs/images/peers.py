"""Draw ``peers.png``, the accuracy of each toolkit on each dataset: ``python docs/images/peers.py``."""

from __future__ import annotations

import csv
import runpy
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import matplotlib.pyplot as plt
from PIL import Image

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
COLORS = ("#2f6fad", "#d1700f", "#7a7f87", "#b7bcc4")


def means() -> dict[str, dict[str, list[float]]]:
    """Return the mean over the seeds of each toolkit, by the number of images and the dataset."""
    toolkits = runpy.run_path(str(BENCHMARKS / "tables.py"))["TOOLKITS"]
    runs: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    with open(BENCHMARKS / "results" / "peers.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["group"], row["size"]) == ("held out", "96"):
                values = [float(row[name]) for name in toolkits]
                runs[row["images"], row["dataset"]].append(values)
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for (images, dataset), values in runs.items():
        found[images][dataset] = [fmean(each) for each in zip(*values, strict=True)]
    return found


def main() -> None:
    """Draw."""
    toolkits = runpy.run_path(str(BENCHMARKS / "tables.py"))["TOOLKITS"].values()
    found = means()
    figure, panels = plt.subplots(
        1, len(found), figsize=(11, 3.6), sharey=True, layout="constrained"
    )
    for axes, (images, datasets) in zip(panels, found.items(), strict=True):
        for i, (toolkit, color) in enumerate(zip(toolkits, COLORS, strict=True)):
            places = [j + (i - 1.5) * 0.2 for j in range(len(datasets))]
            heights = [values[i] for values in datasets.values()]
            axes.bar(places, heights, 0.18, color=color, label=toolkit)
        axes.set_xticks(range(len(datasets)), list(datasets))
        axes.set_title(f"{images} training images", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy in percent")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    path = HERE / "peers.png"
    figure.savefig(path, dpi=110)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
