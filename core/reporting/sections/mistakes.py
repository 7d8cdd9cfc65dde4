"""The section of the worst mistakes: what is right, what was predicted, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visiongraft.errors import OptionError, PluginError, VisiongraftError
from visiongraft.explaining.explaining import explain_sample
from visiongraft.explaining.nearest import nearest_rows
from visiongraft.pages.parts import Gallery, GalleryImage, Part, Text, data_uri
from visiongraft.reporting.contract import ReportedRun, Results
from visiongraft.reporting.drawn_images import raw_image
from visiongraft.reporting.passes import training_embeddings
from visiongraft.reporting.sections.images import OfEmbeddings
from visiongraft.task_contract.targets import describe_target, ideal_prediction
from visiongraft.training.evaluation import decode_samples, scalars

WORST = 24  # images
NEAREST = 3  # training images beside each
SHOWN, DETAIL = 480, 120  # pixels


class Mistakes(OfEmbeddings):
    """The images with the worst results, each with what is right, what was predicted, and explanations."""

    name, title, position = "mistakes", "Worst mistakes", 60

    def __init__(self, run: ReportedRun) -> None:
        super().__init__(run)
        self.severity = np.zeros(len(run.validation or ()))

    def update(self, results: Results) -> None:
        super().update(results)
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
        maps, reason = self._maps(worst)
        nearest = self._nearest(worst)
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
            details = [*maps.get(index, ()), *nearest.get(index, ())]
            shown.append(GalleryImage(data_uri(_beside(drawn), SHOWN), captions, details))
        if ideal_prediction(run.task, samples.target(worst[0])) is not None:
            yield Text("On the left what is right, on the right what was predicted.")
        if maps:
            yield Text(
                "The small images: what the prediction depends on (Grad-CAM, warm is more), and the training "
                "images that the model embeds nearest, with their labels."
                if nearest
                else "The small images: what the prediction depends on (Grad-CAM, warm is more)."
            )
        elif nearest:
            yield Text("The small images: the training images that the model embeds nearest.")
        if reason:
            yield Text(f"Predictions are not explained: {reason}")
        yield Gallery(shown, wide=True)

    def _maps(self, chosen: Sequence[int]) -> tuple[Mapping[int, list[GalleryImage]], str]:
        """Explain the first result of each image; return why not if that is impossible."""
        run, samples = self.run, self.run.validation
        assert samples is not None
        if run.task.inputs.layout != "NHWC":
            return {}, ""
        found = {}
        for index in chosen:
            raw = np.asarray(samples.load(index, run.network.backbone.info.in_channels))
            try:
                first = next(explain_sample(run.network, run.name(samples, index), raw), None)
            except (OptionError, PluginError) as error:
                return {}, str(error)
            if first is not None:
                image = data_uri(first.draw(), DETAIL)
                found[index] = [GalleryImage(image, (f"why {first.target}",))]
        return found, ""

    def _nearest(self, chosen: Sequence[int]) -> Mapping[int, list[GalleryImage]]:
        """Find the training images nearest to each image, if there are embeddings."""
        run, training = self.run, self.run.training
        if not training or any(i not in self.found for i in chosen):
            return {}
        others = training_embeddings(run)
        rows = nearest_rows(np.stack([self.found[i] for i in chosen]), others, NEAREST)
        return {
            index: [
                image for position, distance in row if (image := self._neighbor(position, distance))
            ]
            for index, row in zip(chosen, rows, strict=True)
        }

    def _neighbor(self, position: int, distance: float) -> GalleryImage | None:
        run, training = self.run, self.run.training
        assert training is not None
        image = raw_image(run, training, position)
        if image is None:
            return None
        label = describe_target(run.task, training.target(position))
        captions = (
            *([label] if label else []),
            f"{distance:.2f} away",
            run.name(training, position),
        )
        return GalleryImage(data_uri(image, DETAIL), captions)


def _beside(images: list[PillowImage.Image]) -> PillowImage.Image:
    """Put images beside each other."""
    height = max(image.height for image in images)
    joined = PillowImage.new("RGB", (sum(image.width for image in images), height), "white")
    left = 0
    for image in images:
        joined.paste(image.convert("RGB"), (left, 0))
        left += image.width
    return joined
