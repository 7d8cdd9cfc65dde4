"""The whole way of every built-in task on real data, by the command line: fit to plain onnxruntime.

    python benchmarks/deployment.py --data FOLDER --out FOLDER [--only NAME ...]
        [--threads N] [--seconds S]

For each model the commands ``fit``, ``export`` (fp32, fp16, int8), ``verify``, ``bench`` and ``predict``
run one after the other, as they stand on standard error. Then a fresh process that imports neither
visiongraft nor torch predicts the same images by onnxruntime alone. Printed is one table.

What is in ``--out`` already is not made again, but for the timing: delete a model's folder, or its
``.onnx`` files, to make them anew. A precision that is refused is a line of the table too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COMMAND = Path(sys.executable).with_name("visiongraft")
PRECISIONS = ("fp32", "fp16", "int8")
IMAGES = 4  # that both ways predict
SAME = 1e-3  # of the largest value: a batch is summed in another order than one image

PLAIN = """
import sys
import numpy as np, onnxruntime
from PIL import Image, ImageOps
file, folder, *names = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
outputs = [output.name for output in session.get_outputs()]
for name in names:
    image = np.asarray(ImageOps.exif_transpose(Image.open(name)).convert("RGB"))
    found = session.run(outputs, {"images": image[None]})
    np.savez(folder + "/" + name.split("/")[-1] + ".npz", **dict(zip(outputs, found)))
assert not {"visiongraft", "torch"} & set(sys.modules)
"""

LITE = "--backbone bundled/efficientnet_lite0"
NOTHING = "full(learning_rate=1e-3, layer_decay=1.0, batch_norm='train')"
RESNET = f'--backbone timm/resnet18 --weights none --size 64 --schedule "{NOTHING}"'


@dataclass(frozen=True)
class Model:
    """One model to train and to deploy.

    Attributes:
        name: Of its folder.
        task: The task.
        data: Folder of the dataset.
        images: Folder of images in it, to time and to predict.
        words: Further arguments of ``fit``.
    """

    name: str
    task: str
    data: str
    images: str
    words: str

    @property
    def backbone(self) -> str:
        """The backbone's name."""
        return self.words.split()[1]


MODELS = (
    Model(
        "classification",
        "classification",
        "classification/hymenoptera",
        "val/ants",
        f"{LITE} --schedule lp_ft --epochs 6",
    ),
    Model(
        "digits",
        "classification",
        "domain_adaptation/digits/mnist",
        "val/7",
        f"{RESNET} --epochs 10",
    ),
    Model(
        "things",
        "classification",
        "classification/cifar10_small",
        "val/cat",
        f"{RESNET} --epochs 25",
    ),
    Model(
        "detection",
        "detection",
        "detection/raccoon",
        "JPEGImages",
        f"{LITE} --set head=ssdlite --size 192 --batch-size 8 --epochs 10 --schedule "
        '"lp_ft(probe_epochs=5, probe_learning_rate=2e-3, learning_rate=3e-4)"',
    ),
    Model(
        "segmentation",
        "segmentation",
        "segmentation/camvid",
        "images/val",
        f"{LITE} --set decoder=fpn --set channels=128 --size 128x160 --batch-size 8 --epochs 6 "
        '--schedule "lp_ft(probe_epochs=3, learning_rate=5e-4)"',
    ),
    Model(
        "faces",
        "face_embedding",
        "faces/orl",
        "images/s01",
        f'{LITE} --schedule "last_n(n=4, learning_rate=3e-4)" --epochs 10',
    ),
)
COLUMNS = (
    *("data", "backbone", "precision", "MB", "metric", "PyTorch", "file", "changed", "difference"),
    *("ms, batch 1", "ms, batch 8", "x fp32", "x eager", "plain onnxruntime"),
)


def call(*words: object) -> tuple[int, dict[str, Any]]:
    """Run a command, print it, and return its exit code and its JSON."""
    print("$ visiongraft " + shlex.join(map(str, words)), file=sys.stderr, flush=True)
    done = subprocess.run(
        [COMMAND, *map(str, words), "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"visiongraft {words[0]} ended with {done.returncode}")
    return done.returncode, json.loads(done.stdout)


def certificates(model: Model, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Train and export what does not exist yet; return the certificates, or errors, by precision."""
    run = folder / "run"
    if not (run / "model").is_dir():
        words = shlex.split(model.words)
        call("fit", data, "--task", model.task, *words, "--out", run)
    found = {}
    for precision in PRECISIONS:
        file = folder / f"{precision}.onnx"
        beside = file.with_name(f"{file.name}.certificate.json")
        if not beside.is_file():
            _, found[precision] = call("export", run, file, "--precision", precision)
        else:
            found[precision] = json.loads(beside.read_text())
    return found


def same(task: str, predicted: dict[str, Any], plain: Any, folder: Path) -> float:
    """Return how far the command's prediction is from the plain one, relative to the largest value."""
    if task == "segmentation":
        (mask,) = folder.glob(f"*-{Path(predicted['image']).stem}.mask.png")
        return float(np.mean(np.asarray(Image.open(mask)) != plain["labels"][0]))
    if task == "detection":
        count = int(plain["count"][0])
        pairs = [
            ([one["box"] for one in predicted["objects"]], plain["boxes"][0, :count]),
            ([one["score"] for one in predicted["objects"]], plain["scores"][0, :count]),
        ]
    elif task == "classification":
        pairs = [(list(predicted["probabilities"].values()), plain["probabilities"][0])]
    else:
        pairs = [(predicted["embedding"], plain["embedding"][0])]
    return max(float(np.abs(np.array(a) - b).max() / np.abs(b).max()) for a, b in pairs)


def predict_both_ways(model: Model, file: Path, images: Path) -> str:
    """Predict by the command and by onnxruntime alone, and compare."""
    names = sorted(path for path in images.iterdir() if path.is_file())[:IMAGES]
    out = file.with_name(f"{file.stem}-predicted")
    _, answer = call("predict", file, *names, "--out", out)
    words = [sys.executable, "-c", PLAIN, file, out, *names]
    subprocess.run([str(word) for word in words], check=True, cwd=out)
    worst = 0.0
    for one in answer["predictions"]:
        with np.load(out / f"{Path(one['image']).name}.npz") as plain:
            worst = max(worst, same(model.task, one, plain, out))
    if not worst <= SAME:
        raise SystemExit(f"{file}: plain onnxruntime returns something else, by {worst:.1e}")
    return "same" if worst < 1e-6 else f"within {worst:.0e}"


def rows(model: Model, given: argparse.Namespace) -> Iterator[list[str]]:
    """Take one model the whole way."""
    data, folder = given.data / model.data, given.out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    found = certificates(model, data, folder)
    made = {name: folder / f"{name}.onnx" for name in found if "error" not in found[name]}
    for file in made.values():
        code, outcome = call("verify", file, "--data", data)
        if code or not outcome["passed"]:
            raise SystemExit(f"{file} is not as certified: {outcome}")
    images = data / model.images
    timing = ["--threads", given.threads, "--seconds", given.seconds, "--data", images]
    _, bench = call("bench", *made.values(), "--model", folder / "run", *timing)
    given.machines.add(
        f"{bench['machine']['cpu']} ({', '.join(bench['machine']['instructions'])}), "
        f"{bench['machine']['threads']} threads; "
        + ", ".join(f"{name} {number}" for name, number in bench["versions"].items())
        + f", Python {bench['machine']['python']}"
    )
    times = {(row["name"], row["batch"]): row["p50"] for row in bench["measured"]}
    for name, certificate in found.items():
        start = [Path(model.data).name, model.backbone, name]
        if name not in made:
            yield [*start, "", "", "", "", "", "", "", "", "", "", certificate["error"]]
            continue
        changed, file = certificate["changed"], made[name]
        p50 = [times[file.name, batch] for batch in (1, 8)]
        yield [
            *start,
            f"{file.stat().st_size / 1e6:.1f}",
            certificate["headline"],
            *(f"{certificate[side]:.4f}" for side in ("metric_torch", "metric_exported")),
            "" if changed is None else f"{changed:.2%}",
            f"{certificate['difference']:.0e}",
            *(f"{value:.1f}" for value in p50),
            " ".join(f"{times['fp32.onnx', b] / p:.2f}" for b, p in zip((1, 8), p50, strict=True)),
            " ".join(
                f"{times['PyTorch eager', b] / p:.2f}" for b, p in zip((1, 8), p50, strict=True)
            ),
            predict_both_ways(model, file, images),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=[model.name for model in MODELS])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    given.data, given.out, given.machines = given.data.resolve(), given.out.resolve(), set()
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    table = [COLUMNS, ["---"] * len(COLUMNS)]
    for model in MODELS:
        if given.only is None or model.name in given.only:
            table += rows(model, given)
    print("\n".join([*given.machines, "", *(f"| {' | '.join(row)} |" for row in table)]))


if __name__ == "__main__":
    main()
