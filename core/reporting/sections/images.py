"""Sections of the embeddings of all validation images: a map, near-duplicates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from visiongraft.advice.findings import leak_findings
from visiongraft.advice.sampling import labels_of
from visiongraft.data.samples import Samples
from visiongraft.pages.figures import draw_points
from visiongraft.pages.parts import Figure, Lines, Part, Text, data_uri
from visiongraft.reporting.contract import Projection, ReportedRun, ReportSection, Results
from visiongraft.reporting.drawn_images import raw_image
from visiongraft.reporting.passes import training_embeddings

WORST = 24  # images
POINTS = 1000  # of the map
THUMBNAIL, SHOWN = 64, 480  # pixels


class OfEmbeddings(ReportSection):
    """A section that needs the embeddings of all validation images."""

    watches = True

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.found: dict[int, NDArray[np.float32]] = {}

    def update(self, results: Results) -> None:
        if results.embeddings is not None:
            self.found.update(zip(results.positions, results.embeddings, strict=True))


class EmbeddingMap(OfEmbeddings):
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


class NearDuplicates(OfEmbeddings):
    """Validation images that are nearly the same as training images, by their embeddings."""

    name, title, position = "duplicates", "Near-duplicates across splits", 75

    def parts(self) -> Iterator[Part]:
        run = self.run
        validation, training = run.validation, run.training
        if not self.found or validation is None or training is None or len(training) < 3:
            return
        own = np.stack([self.found[i] for i in range(len(validation))]).astype(np.float64)
        others = training_embeddings(run)
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
