"""Sections that look at every validation image: the worst mistakes, a map, near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from visiongraft.advice.findings import leak_findings
from visiongraft.advice.sampling import labels_of
from visiongraft.data.samples import Samples
from visiongraft.errors import VisiongraftError
from visiongraft.pages.figures import draw_points
from visiongraft.pages.parts import Figure, Gallery, GalleryImage, Lines, Part, Text, data_uri
from visiongraft.reporting.contract import Projection, ReportedRun, ReportSection, Results
from visiongraft.reporting.drawn_images import describe_target, ideal_prediction, raw_image
from visiongraft.reporting.passes import embed_samples
from visiongraft.training.evaluation import decode_samples, scalars

WORST = 24  # images
POINTS = 1000  # of the map
THUMBNAIL, SHOWN = 64, 480  # pixels


class Mistakes(ReportSection):
    """The images with the worst results, each with what is right and what was predicted."""

    name, title, position, watches = "mistakes", "Worst mistakes", 60, True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.severity = np.zeros(len(run.validation or ()))

    def update(self, results: Results) -> None:
        assert self.run.validation is not None
        task, positions = self.run.task, list(results.positions)
        found = task.mistakes(results.decoded, results.targets)
        if found is not None:
            self.severity[positions] = found
            return
        sign, best = (-1, 1.0) if task.better == "higher" else (1, 0.0)
        for row, position in enumerate(positions):
            one = {name: array[row : row + 1] for name, array in results.decoded.items()}
            metrics = task.build_metrics()
            try:
                metrics.update(one, task.collate([self.run.validation.target(position)]))
                value = scalars(metrics.compute()).get(task.headline, math.nan)
            except VisiongraftError:  # a metric that needs several images
                value = math.nan
            if not math.isnan(value):
                self.severity[position] = sign * (value - best)

    def parts(self) -> Iterator[Part]:
        run, samples = self.run, self.run.validation
        assert samples is not None
        order = np.argsort(-self.severity, kind="stable")
        worst = [int(i) for i in order[:WORST] if self.severity[i] > 0]
        count = int((self.severity > 0).sum())
        if not worst:
            yield Text("No validation image is wrong.")
            return
        yield Text(
            f"{count} of {len(samples)} validation images have faults; the worst come first."
        )
        predictions: dict[int, Any] = {}
        for decoded, _, positions in decode_samples(run.network, samples.subset(worst), 16):
            predictions.update(zip(positions, run.task.predictions(decoded), strict=True))
        shown = []
        for place, index in enumerate(worst):
            target = samples.target(index)
            image = raw_image(run, samples, index)
            if image is None:
                return
            truth = ideal_prediction(run.task, target)
            drawn = [run.task.draw(image, p) for p in (truth, predictions[place]) if p is not None]
            label = describe_target(run.task, target)
            captions = [*([f"true: {label}"] if label else []), run.name(samples, index)]
            shown.append(GalleryImage(data_uri(_beside(drawn), SHOWN), captions))
        if ideal_prediction(run.task, samples.target(worst[0])) is not None:
            yield Text("On the left what is right, on the right what was predicted.")
        yield Gallery(shown, wide=True)


class _OfEmbeddings(ReportSection):
    """A section that needs the embeddings of all validation images."""

    watches = True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.found: dict[int, NDArray[np.float32]] = {}

    def update(self, results: Results) -> None:
        if results.embeddings is not None:
            self.found.update(zip(results.positions, results.embeddings, strict=True))


class EmbeddingMap(_OfEmbeddings):
    """The validation images in the plane, by what the backbone computes."""

    name, title, position = "map", "Map of the validation images", 70

    def parts(self) -> Iterator[Part]:
        run, samples = self.run, self.run.validation
        assert samples is not None
        if len(self.found) < 3 or not run.task.inputs.has_size:
            return
        chosen = np.linspace(0, len(samples) - 1, min(POINTS, len(samples))).astype(int).tolist()
        labels = labels_of(run.task, samples)
        names = run.class_names
        groups = ["" if labels is None else names[labels[i]] for i in chosen]
        thumbnails = []
        for index in chosen:
            image = raw_image(run, samples, index)
            thumbnails.append("" if image is None else data_uri(image, THUMBNAIL))
        points, how = project(
            np.stack([self.found[i] for i in chosen]).astype(np.float64), run.projection
        )
        figure = draw_points(points, groups, [run.name(samples, i) for i in chosen], thumbnails)
        some = "" if len(chosen) == len(samples) else f" {len(chosen)} of {len(samples)} images."
        yield Figure(
            figure,
            f"Embeddings of the trained backbone by {how}; images nearby look alike to it.{some}",
        )


class NearDuplicates(_OfEmbeddings):
    """Validation images that are nearly the same as training images, by their embeddings."""

    name, title, position = "duplicates", "Near-duplicates across splits", 75

    def parts(self) -> Iterator[Part]:
        run = self.run
        validation, training = run.validation, run.training
        if not self.found or validation is None or training is None or len(training) < 3:
            return
        own = np.stack([self.found[i] for i in range(len(validation))]).astype(np.float64)
        others = embed_samples(run.network, training)
        found = leak_findings(others, own, self._names(training), self._names(validation))
        if found:
            yield Lines([str(finding) for finding in found])
        else:
            yield Text("No validation image is nearly the same as a training image.")

    def _names(self, samples: Samples) -> list[str]:
        return [self.run.name(samples, i) for i in range(len(samples))]


def project(embeddings: NDArray[np.float64], method: Projection) -> tuple[NDArray[np.float64], str]:
    """Project embeddings to the plane.

    Args:
        embeddings: (N, D).
        method: ``"pca"`` or ``"umap"``.

    Returns:
        (N, 2), and the method in words.
    """
    if method == "umap":
        from umap import UMAP

        neighbors = min(15, len(embeddings) - 1)
        found = UMAP(n_neighbors=neighbors, random_state=0, n_jobs=1).fit_transform(embeddings)
        return np.asarray(found, dtype=np.float64), "UMAP"
    centered = embeddings - embeddings.mean(axis=0)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    points = np.zeros((len(embeddings), 2))
    kept = min(2, len(values))
    points[:, :kept] = (left * values)[:, :kept]
    return points, "principal components"


def _beside(images: list[PillowImage.Image]) -> PillowImage.Image:
    """Put images beside each other."""
    height = max(image.height for image in images)
    joined = PillowImage.new("RGB", (sum(image.width for image in images), height), "white")
    left = 0
    for image in images:
        joined.paste(image.convert("RGB"), (left, 0))
        left += image.width
    return joined
