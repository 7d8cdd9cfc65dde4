"""Recognizing classes without images: word vectors, and a linear map from images to them.

    python benchmarks/text_vision.py DATA --results FILE [--images N] [--seeds N] [--limit N]

DATA is a folder of images by class in train/ and val/, such as cifar10_small. The backbone's embeddings are
computed once. For every pair of classes a map is fitted to training images of all others. The validation images
of the pair are then compared with the texts of the two (unseen), and with those of all classes, without and with
the penalty on classes with images that leaving classes out chose (generalized). The functions are those of
``visiongraft.zero_shot``.

Splits share classes, so that their spread is not an error bar; random vectors in place of the texts show
what the method gives without any meaning.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import visiongraft as vg
from visiongraft.advice.candidates import embed, load_candidate
from visiongraft.plugins.classification.task import Classification
from visiongraft.text.mapping import FEWEST, choose_seen_penalty, fit_map
from visiongraft.text.prompts import TEMPLATES, class_texts, class_vectors

Floats = NDArray[np.float64]
# Written before any result.
DESCRIBED = {
    "airplane": ["airplane flying in the sky", "jet aircraft with wings"],
    "automobile": ["automobile on a road", "car with four wheels"],
    "bird": ["bird with feathers and wings", "small animal that flies"],
    "cat": ["cat, a pet with fur and whiskers", "kitten"],
    "deer": ["deer in a forest", "wild animal with antlers"],
    "dog": ["dog, a pet with fur", "puppy"],
    "frog": ["frog, a small green amphibian", "toad in a pond"],
    "horse": ["horse on a meadow", "large animal with hooves and a mane"],
    "ship": ["ship on the sea", "boat on water"],
    "truck": ["truck on a road", "large vehicle for freight"],
}


def unit(rows: Floats) -> Floats:
    found: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def centered(vectors: Floats) -> Floats:
    """Center vectors of classes as ``zero_shot`` does."""
    return unit(vectors - vectors.mean(axis=0))


def kinds_of_vectors(names: Sequence[str], encoder: str, seeds: int) -> dict[str, Floats]:
    """Return vectors of the classes, by kind."""
    loaded = vg.load_text_encoder(encoder)

    def vectors(classes: Any, templates: Sequence[str]) -> Floats:
        return centered(class_vectors(loaded, class_texts(classes, templates)))

    kinds = {"name": vectors(names, ["{}"]), "a photo of a": vectors(names, TEMPLATES)}
    if set(names) == set(DESCRIBED):
        kinds["described"] = vectors({name: DESCRIBED[name] for name in names}, ["{}"])
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).normal(size=(len(names), loaded.info.dim))
        kinds[f"random {seed}"] = centered(drawn)
    return kinds


def measure_pair(
    train: tuple[Floats, NDArray[np.int64]],
    test: tuple[Floats, NDArray[np.int64]],
    vectors: Floats,
    pair: Sequence[int],
    generalized: bool,
) -> dict[str, float]:
    """Leave two classes out, and measure how well they are recognized.

    Args:
        train: Embeddings and class ids to fit the map to; those of the pair are left out.
        test: Likewise, to measure on.
        vectors: float64 (C, dim), one for each class.
        pair: The classes that are left out.
        generalized: Whether to measure with all classes competing, too.

    Returns:
        ``unseen``, and by ``generalized`` also ``penalty`` and fractions of correct predictions for images of
        both kinds of classes.
    """
    kept = ~np.isin(train[1], pair)
    features, labels = train[0][kept], train[1][kept]
    fitted = fit_map(features, labels, vectors)
    cosines = unit(test[0] @ fitted.projection.T + fitted.offset) @ vectors.T
    of_pair = np.isin(test[1], pair)
    chosen = np.asarray(pair)[cosines[of_pair][:, list(pair)].argmax(1)]
    found = {"unseen": float((chosen == test[1][of_pair]).mean())}
    if generalized:
        penalty = choose_seen_penalty(features, labels, vectors)
        assert penalty is not None, f"fewer than {FEWEST} classes with images"
        found["penalty"] = penalty
        for name, value in (("plain", 0.0), ("penalized", penalty)):
            scores = cosines - value * ~np.isin(np.arange(len(vectors)), pair)
            right = scores.argmax(1) == test[1]
            found[f"{name} seen"] = float(right[~of_pair].mean())
            found[f"{name} unseen"] = float(right[of_pair].mean())
    return found


def harmonic(seen: float, unseen: float) -> float:
    return 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0


def summarize(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the tables of the documentation."""
    lines = ["| vectors | unseen classes alone | splits below chance |", "| --- | --- | --- |"]
    for kind, rows in results.items():
        values = [row["unseen"] for row in rows]
        below = sum(value < 0.5 for value in values)
        lines.append(f"| {kind} | {statistics.mean(values):.3f} | {below} of {len(values)} |")
    lines += [
        "",
        "| vectors | penalty | seen | unseen | harmonic mean |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, rows in results.items():
        for way in ("plain", "penalized"):
            if f"{way} seen" not in rows[0]:
                continue
            seen, unseen = (
                statistics.mean(row[f"{way} {part}"] for row in rows) for part in ("seen", "unseen")
            )
            mean = statistics.mean(
                harmonic(row[f"{way} seen"], row[f"{way} unseen"]) for row in rows
            )
            penalty = statistics.mean(row["penalty"] for row in rows) if way == "penalized" else 0
            lines.append(f"| {kind} | {penalty:.3f} | {seen:.3f} | {unseen:.3f} | {mean:.3f} |")
    return lines


def features_of(
    data: Path, backbone: str, size: int, images: int
) -> tuple[list[str], list[tuple[Floats, NDArray[np.int64]]]]:
    """Embed training images, as many of each class, and validation images."""
    splits = Classification().read(data)
    candidate = load_candidate(
        backbone, "pretrained", torch.device("cpu"), in_channels=3, size=size, resize=None
    )
    found = []
    for samples, most in ((splits.train, images), (splits.validation, len(splits.validation))):
        labels = np.array([samples.target(i) for i in range(len(samples))])
        rows = np.concatenate([np.flatnonzero(labels == c)[:most] for c in np.unique(labels)])
        embedded = embed(candidate, samples.subset(rows.tolist()))
        found.append((embedded.features, labels[rows]))
    return list(splits.facts["training images per class"]), found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--text", default="wordllama")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=100, help="training images of each class")
    parser.add_argument("--seeds", type=int, default=5, help="draws of random vectors")
    parser.add_argument("--limit", type=int, default=None, help="pairs of classes")
    options = parser.parse_args()
    names, (train, test) = features_of(options.data, options.backbone, options.size, options.images)
    kinds = kinds_of_vectors(names, options.text, options.seeds)
    pairs = list(itertools.combinations(range(len(names)), 2))[: options.limit]
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for pair in pairs:
        for kind, vectors in kinds.items():
            generalized = kind == "random 0" or not kind.startswith("random")
            found: dict[str, Any] = dict(measure_pair(train, test, vectors, pair, generalized))
            results[kind].append({"pair": [names[i] for i in pair], **found})
        options.results.write_text(json.dumps(results, indent=1))
    print("\n".join(summarize(results)))


if __name__ == "__main__":
    main()
