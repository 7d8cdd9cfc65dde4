"""Is advice right? Constructed cases whose truth is known by training everything.

    python benchmarks/advice_cases.py --out FOLDER [--cases NAME ...] [--seeds 0 1] [--limit N]

A small network is trained on a source: digits of scikit-learn, tiles of scikit-image's photographs of textures,
or digits with permuted labels. A case is a shift from a source to a target: of the input (inverted, noisy,
blurred or rotated images), of the features (other classes), or of the output (other labels of the same images), after Lee
et al. (2023); or an unrelated source, or plenty of data. The advice sees the training images of the target
alone. The truth is the accuracy on hundreds of other images after each training that advice may recommend, as a mean over
three trainings. Advice is right if what it recommends is within 2 points of the best one. Finished cases are appended to
OUT/cases.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cells import read_cells, train_cells
from numpy.typing import NDArray
from PIL import Image
from small_sets import TEXTURES

import visiongraft
from visiongraft.advice.trials import SMALL_EPOCHS, SMALL_NETWORK, SMALL_SCHEDULE, SMALL_SIDE

Images = NDArray[np.uint8]
Pairs = list[tuple[Images, int]]
Shift = Callable[[Images], Images]

SIDE = 16
TILE = 24
SOURCE_EPOCHS, EPOCHS = 20, 10
SETTINGS: dict[str, Any] = {"task_options": {"augment": "none"}, "device": "cpu"}
RATE = 1e-3
TRUTHS = 3  # trainings with other random numbers that the truth is a mean over
MARGIN = 0.02  # of accuracy, within which a recommendation is right
SCRATCH = "scratch"
TRAININGS = ("linear_probe", "last_n(n=1)", "full", "lp_ft", "open_on_gain", SCRATCH)


@dataclass(frozen=True)
class Case:
    """A target that a source is transferred to.

    Attributes:
        name: Name of the case.
        source: Name of the source, see ``SOURCES``.
        data: Name of the images, ``digits`` or ``textures``.
        images: Number of training images.
        shift: Name of the change of the images, see ``SHIFTS``; empty for none.
        labels: Name of the change of the labels, see ``LABELS``; empty for none.
        seed: Of the choice of the images, and of all trainings.
    """

    name: str
    source: str
    data: str
    images: int
    shift: str = ""
    labels: str = ""
    seed: int = 0


# (source, data, images, shift, labels) by name
CASES: dict[str, tuple[str, str, int, str, str]] = {
    "same": ("digits", "digits", 80, "", ""),
    "output: labels flipped": ("digits", "digits", 120, "", "flipped"),
    "output: odd or even": ("digits", "digits", 120, "", "parity"),
    "input: inverted": ("digits", "digits", 160, "inverted", ""),
    "input: noisy": ("digits", "digits", 160, "noisy", ""),
    "input: rotated": ("digits", "digits", 160, "rotated", ""),
    "input: textures blurred": ("textures", "textures", 160, "blurred", ""),
    "feature: other digits": ("low digits", "digits", 120, "", "high"),
    "feature: other textures": ("some textures", "textures", 120, "", "others"),
    "unrelated: textures to digits": ("textures", "digits", 240, "", ""),
    "unrelated: digits to textures": ("digits", "textures", 240, "", ""),
    "unrelated: permuted labels": ("permuted digits", "digits", 240, "", ""),
    "plenty: same": ("digits", "digits", 480, "", ""),
    "plenty: unrelated": ("textures", "digits", 720, "", ""),
}

LABELS: dict[str, Callable[[int], int | None]] = {
    "": lambda label: label,
    "flipped": lambda label: 9 - label,
    "parity": lambda label: label % 2,
    "low": lambda label: label if label < 5 else None,
    "high": lambda label: label - 5 if label >= 5 else None,
    "some": lambda label: label // 2 if label % 2 == 0 else None,
    "others": lambda label: label // 2 if label % 2 else None,
}

SOURCES: dict[str, tuple[str, str]] = {
    "digits": ("digits", ""),
    "low digits": ("digits", "low"),
    "permuted digits": ("digits", ""),
    "textures": ("textures", ""),
    "some textures": ("textures", "some"),
}


def inverted(image: Images) -> Images:
    return 255 - image


def noisy(image: Images) -> Images:
    generator = np.random.default_rng(int(image.astype(np.int64).sum()))
    changed = image + generator.normal(0, 80, image.shape)
    return changed.clip(0, 255).astype(np.uint8)


def rotated(image: Images) -> Images:
    return np.ascontiguousarray(np.rot90(image))


def blurred(image: Images) -> Images:
    small = Image.fromarray(image).resize((SIDE // 3, SIDE // 3), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


SHIFTS: dict[str, Shift] = {
    "": lambda image: image,
    **{function.__name__: function for function in (inverted, noisy, rotated, blurred)},
}


@cache
def all_images(data: str) -> Pairs:
    """Return all images of a kind at random, (SIDE, SIDE, 3) each."""
    pairs = list(digits() if data == "digits" else textures())
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i] for i in order]


def digits() -> Pairs:
    from sklearn.datasets import load_digits

    found = load_digits()
    return [
        (resized((pixels * 255 / 16).astype(np.uint8)), int(label))
        for pixels, label in zip(found.images, found.target, strict=True)
    ]


def textures() -> Pairs:
    """Cut photographs into tiles that do not overlap, at most 230 of each."""
    import skimage.data

    pairs: Pairs = []
    for label, name in enumerate(TEXTURES):
        image = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("L"))
        starts = [range(0, length - TILE + 1, TILE) for length in image.shape]
        tiles = [
            image[top : top + TILE, left : left + TILE] for top in starts[0] for left in starts[1]
        ]
        order = np.random.default_rng(label).permutation(len(tiles))[:230]
        pairs += [(resized(tiles[i]), label) for i in order]
    return pairs


def resized(image: Images) -> Images:
    return np.asarray(Image.fromarray(image).convert("RGB").resize((SIDE, SIDE)))


def parts(data: str) -> dict[str, Pairs]:
    """Divide the images of a kind: a third each for sources, targets, and the truth."""
    pairs = all_images(data)
    ends = [round(len(pairs) * part / 3) for part in range(4)]
    return {
        name: pairs[first:last]
        for name, first, last in zip(("source", "target", "test"), ends, ends[1:], strict=False)
    }


def changed(pairs: Pairs, shift: str, labels: str) -> Pairs:
    """Change images and labels; images without a label are left out."""
    found = [(SHIFTS[shift](image), LABELS[labels](label)) for image, label in pairs]
    return [(image, label) for image, label in found if label is not None]


def source_folder(name: str, out: Path) -> Path:
    """Return the folder of a source network; train it on first use."""
    folder = out / "sources" / name.replace(" ", "-")
    if not (folder / "model").is_dir():
        data, labels = SOURCES[name]
        pairs = changed(parts(data)["source"], "", labels)
        if name.startswith("permuted"):
            order = np.random.default_rng(1).permutation(len(pairs))
            pairs = [(image, pairs[i][1]) for (image, _), i in zip(pairs, order, strict=True)]
        train(pairs, SCRATCH, None, seed=0, out=folder)
    return folder


def train(
    pairs: Pairs, training: str, source: Path | None, seed: int, out: Path | None = None
) -> Any:
    """Train a network as advice may recommend it, or from scratch as a source."""
    small = training == SCRATCH
    return visiongraft.fit(
        pairs,
        task="classification",
        backbone=SMALL_NETWORK if source is None or small else str(source),
        weights=None if source is None or small else "pretrained",
        size=SIDE if source is None or not small else SMALL_SIDE,
        schedule=SMALL_SCHEDULE if small else training,
        epochs=SOURCE_EPOCHS if source is None else SMALL_EPOCHS if small else EPOCHS,
        learning_rate=None if small else RATE,
        seed=seed,
        callbacks=(),
        out=out,
        **SETTINGS,
    )


def run_case(case: Case, out: Path) -> dict[str, Any]:
    """Ask for advice, and train everything that it may recommend."""
    source = source_folder(case.source, out)
    divided = parts(case.data)
    own = SOURCES[case.source][0] == case.data
    pool = divided["target"] if own else [*divided["target"], *divided["source"]]
    pool = changed(pool, case.shift, case.labels)
    order = np.random.default_rng(case.seed).permutation(len(pool))[: case.images]
    pairs, test = [pool[i] for i in order], changed(divided["test"], case.shift, case.labels)
    advice = visiongraft.advise(
        pairs,
        task="classification",
        backbones=[source],
        scorers=["linear_probe"],
        within="1h",
        epochs=EPOCHS,
        learning_rate=RATE,
        size=SIDE,
        seed=case.seed,
        **SETTINGS,
    )
    evidence = advice.evidence
    assert evidence is not None and evidence.recommendation is not None
    recommended = evidence.recommendation
    advised = recommended.schedule if recommended.pretrained else SCRATCH
    truth = {training: accuracy(pairs, training, source, case.seed, test) for training in TRAININGS}
    return {
        "verdict": evidence.verdict,
        "advised": advised,
        "truth": truth,
        "trials": {trial.what: trial.accuracy.value for trial in evidence.trials},
        "seconds": advice.seconds,
    }


def accuracy(pairs: Pairs, training: str, source: Path, seed: int, test: Pairs) -> float:
    """Return the mean accuracy on the test images after trainings with other random numbers."""
    runs = (train(pairs, training, source, 100 * i + seed) for i in range(TRUTHS))
    return float(np.mean([model.evaluate(test)["accuracy"] for model in runs]))


def regret(found: dict[str, Any]) -> float:
    """Return the accuracy that the best training has beyond the one that was recommended."""
    return float(max(found["truth"].values()) - found["truth"][found["advised"]])


def print_table(found: dict[Case, dict[str, Any]]) -> None:
    """Print one line for each case, and how often advice is right."""
    print(f"{'case':31}" + "".join(f"{name:>13}" for name in TRAININGS) + "  advice")
    for case, each in found.items():
        right = "right" if regret(each) <= MARGIN else f"WRONG by {regret(each):.3f}"
        values = "".join(f"{each['truth'][name]:13.3f}" for name in TRAININGS)
        print(f"{case.name:31}{values}  {each['verdict']} -> {each['advised']}: {right}")
    rights = [regret(each) <= MARGIN for each in found.values()]
    undecided = sum(each["verdict"] == "cannot distinguish" for each in found.values())
    print(
        f"{sum(rights)} of {len(rights)} right ({np.mean(rights):.0%}), {undecided} of them all undecided; "
        f"mean regret {np.mean([regret(each) for each in found.values()]):.4f}"
    )
    for name in TRAININGS:
        losses = [max(each["truth"].values()) - each["truth"][name] for each in found.values()]
        share = np.mean([loss <= MARGIN for loss in losses])
        print(f"always {name}: {share:.0%} right, mean regret {np.mean(losses):.4f}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--limit", type=int, default=10**6)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "cases.jsonl"
    cases = [Case(name, *CASES[name], seed) for seed in given.seeds for name in given.cases]
    train_cells(cases, lambda case: run_case(case, given.out), results, given.limit)
    print_table(read_cells(results, Case))


if __name__ == "__main__":
    main()
