"""Draw ``terminal-*.svg``: what a user types, and what the commands print.

Run it from anywhere: ``python docs/images/terminals.py [NAME ...]``. It needs scikit-image, pyte and lightning. The images are those of
the quick start.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

from quick_start import PAGE, script_of
from terminal import HERE, draw, typed

EXAMPLES = HERE.parents[1] / "examples"
FIT = "visiongraft fit photos --size 64 --epochs 4"
RUN = "runs/photos-1"  # the folder that fit chooses
CALLBACK = """
import visiongraft as vg


def note(record):
    loss = record["validation_loss"]["loss"]
    print(f"after epoch {record['epoch'] + 1}, validation loss {loss:.3f}")


vg.fit("photos", size=64, epochs=2, callbacks=[note])
"""
SUMMARY = """
import visiongraft as vg

model = vg.load("runs/photos-1")
print(model, model.summary(), sep="\\n\\n")
"""


def begin() -> None:
    """Make the images, and the run that most commands look at."""
    Path("tiles.py").write_text(script_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    runpy.run_path("tiles.py")
    Path("callback.py").write_text(CALLBACK.lstrip(), encoding="utf-8")
    Path("summary.py").write_text(SUMMARY.lstrip(), encoding="utf-8")
    draw("terminal-fit", "task and folder are found out", typed(FIT))


def names() -> None:
    """Type what other programs call it."""
    words = ("train photos", "fit photos --lr 1e-3", "fit photos --schedul full")
    config = f"visiongraft fit --config {RUN} --epochs 2 2>&1 | tail -n 1"
    wrong = "python -c \"import visiongraft as vg; vg.fit('photos', batchsize=8)\" 2>&1 | tail -n 1"
    commands = [*(f"visiongraft {each}" for each in words), wrong, config]
    draw("terminal-names", "other names, and settings of a run", *map(typed, commands))


def progress() -> None:
    """Stop the clock in the middle of an epoch, and look at a log file."""
    moment = re.compile(r"epoch 3/4 .*1[2-9]/25 loss .*\d:\d\d:\d\d")
    command = f"{FIT} --batch-size 8 --out runs/bars"
    draw(
        "terminal-progress",
        "a terminal in the middle of an epoch, and a log file",
        typed(command, until=lambda text: moment.search(text) is not None),
        typed("cat runs/bars/run.log"),
    )


def callback() -> None:
    """Call a function after each epoch."""
    draw(
        "terminal-callback",
        "a function as a callback",
        typed("cat callback.py"),
        typed("python callback.py"),
    )


def metrics() -> None:
    """Measure a metric of torchmetrics beside those of the task."""
    options = "--schedule linear_probe --metric auroc=MulticlassAUROC --out runs/metric"
    draw("terminal-metrics", "a metric of your own", typed(f"{FIT} {options} 2>&1 | grep epoch"))


def predict() -> None:
    """Write tables of predictions."""
    draw(
        "terminal-predict",
        "predictions as lines and as a table",
        typed(f"visiongraft predict {RUN} photos/cat | tail -n 3"),
        typed(
            f"visiongraft predict {RUN} photos/cat --out found.csv > /dev/null; head -n 4 found.csv"
        ),
    )


def summary() -> None:
    """Print a model."""
    draw("terminal-summary", "what a model says of itself", typed("python summary.py"))


def checks() -> None:
    """Ask whether maps can be trusted."""
    command = (
        f"visiongraft explain {RUN} photos/cat/96-192.png photos/coffee/0-0.png --checks --out maps"
    )
    draw("terminal-checks", "can a map be trusted?", typed(command))


def embed() -> None:
    """Write vectors."""
    command = (
        f"visiongraft embed {RUN} photos --out vectors.csv; head -n 3 vectors.csv | cut -c1-70"
    )
    draw("terminal-embed", "vectors of images", typed(command))


def lightning() -> None:
    """Run the example with Lightning's loop."""
    for number, path in enumerate(sorted(Path("photos").glob("*/*.png"))):
        target = Path("flowers", "val" if number % 3 == 0 else "train", path.parent.name, path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(EXAMPLES / "lightning_classifier.py", ".")
    command = "python -W ignore lightning_classifier.py flowers --size 64 --out flowers.onnx 2> log"
    draw("terminal-lightning", "the loop of Lightning", typed(command))


PICTURES = {
    each.__name__: each
    for each in (names, progress, callback, metrics, predict, summary, checks, embed, lightning)
}


def main() -> None:
    """Draw those that are named, or all."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        begin()
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name]()


if __name__ == "__main__":
    main()
