"""``explain``: which parts of images the results of a model depend on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from torch import Tensor

from visiongraft.averaging.members import Model, load_models
from visiongraft.backbone import Features
from visiongraft.errors import DataError, OptionError, name_some
from visiongraft.explaining.checks import SanityCheck, check_map
from visiongraft.explaining.maps import METHODS, Scored
from visiongraft.html import html_figure
from visiongraft.inputs.samples import InputSamples
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.options import check_choice, checks_keywords
from visiongraft.pages.parts import data_uri
from visiongraft.saving.files import numbered
from visiongraft.task import Task
from visiongraft.task_contract.explained import Explained

log = logging.getLogger("visiongraft")

NEAREST = "nearest"  # the method of visiongraft.explaining.nearest, on the command line


@dataclass(frozen=True)
class Explanation:
    """Which parts of an image one result depends on.

    Attributes:
        image: Name of the image.
        target: What is explained, such as a class.
        method: How.
        map: float32 (height, width), over the network's input; higher where the result depends more on it.
        seen: uint8 (height, width, 3), the network's input.
        box: Of a detection its corners, as fractions of width and height.
        check: The sanity checks, if they were asked for.
    """

    image: str
    target: str
    method: str
    map: NDArray[np.float32]
    seen: NDArray[np.uint8]
    box: tuple[float, float, float, float] | None = None
    check: SanityCheck | None = None

    def draw(self, alpha: float = 0.5) -> PillowImage.Image:
        """Draw the map over the image.

        Args:
            alpha: Opacity of the map, in [0, 1].
        """
        highest = float(self.map.max())
        scaled = self.map / highest if highest > 0 else self.map
        heat = PillowImage.fromarray((colormaps["turbo"](scaled)[..., :3] * 255).astype(np.uint8))
        drawn = PillowImage.blend(PillowImage.fromarray(self.seen), heat, alpha)
        if self.box is not None:
            size = (drawn.width, drawn.height) * 2
            corners = [f * s for f, s in zip(self.box, size, strict=True)]
            ImageDraw.Draw(drawn).rectangle(corners, outline="white", width=2)
        return drawn

    def to_json(self) -> dict[str, Any]:
        """Return all but the arrays as JSON values."""
        check = None if self.check is None else {**asdict(self.check), "passed": self.check.passed}
        return {
            "image": self.image,
            "target": self.target,
            "method": self.method,
            "box": self.box,
            "check": check,
        }

    def summary(self) -> str:
        """Describe it in one line."""
        if self.check is None:
            return self.target
        c = self.check
        return (
            f"{self.target}, checks {'passed' if c.passed else 'failed'}: correlation with random weights "
            f"{c.randomized:.2f}, deletion {c.deletion:.2f} (random {c.random_deletion:.2f}), insertion "
            f"{c.insertion:.2f} (random {c.random_insertion:.2f})"
        )

    def _repr_html_(self) -> str:
        return html_figure(data_uri(self.draw(), 320), f"{self.image}: {self.summary()}")


@checks_keywords
def explain(
    model: Model,
    images: Any,
    method: str = "grad_cam",
    *,
    target: str | None = None,
    similar_to: Any = None,
    checks: bool = False,
    save: str | Path | None = None,
    task: type[Task] | None = None,
) -> list[Explanation]:
    """Explain results of a model: which parts of each image they depend on.

    Of a classifier the predicted class is explained, of a detector its surest boxes, of a segmentation the
    regions of the largest classes, of several heads each. Works on frozen backbones.

    Args:
        model: A model, or the folder of a saved model or a run.
        images: As for ``TransferModel.predict``.
        method: ``"grad_cam"``, ``"layer_cam"``, ``"integrated_gradients"``, ``"occlusion"``,
            ``"attention_rollout"`` or ``"rise"``.
        target: What to explain instead of what is predicted: a class name; with several heads ``"head"``
            or ``"head.class"``. Images of a detector without such an object are named in a warning.
        similar_to: One image: explain how similar each image is to it instead, by the cosine of their
            embeddings.
        checks: Whether to check each map: with random weights it should change, and deleting what it marks
            should matter more than deleting at random.
        save: Folder for images with the maps drawn on them.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The explanations, image by image.

    Raises:
        OptionError: The method or target is unknown, or the task has nothing to explain.
        DataError: An image cannot be read.
        PluginError: The method needs a package that is not installed.

    Examples:
        ``visiongraft.explain("runs/flowers", "a.jpg", "layer_cam")[0].draw()``
    """
    if method == NEAREST:
        raise OptionError(
            "method='nearest' explains by images, not by a map: visiongraft.nearest_images(MODEL, IMAGES)"
        )
    check_choice("method", method, tuple(METHODS))
    if target is not None and similar_to is not None:
        raise OptionError("target and similar_to exclude each other; leave one out")
    (loaded,) = load_models([model], task)[1]
    network = loaded.network.eval()
    if network.task.inputs.layout != "NHWC":
        raise OptionError(
            f"task {network.task.name!r} takes {network.task.inputs.name}, not images"
        )
    samples = InputSamples.of(images, network.task.inputs)
    reference = None if similar_to is None else _embedding_of(loaded, similar_to)
    made: list[Explanation] = []
    empty = []
    for index in range(len(samples)):
        name, raw = samples.name(index), samples.load(index, loaded.backbone_info.in_channels)
        found = list(explain_sample(network, name, raw, method, target, reference, checks))
        made += found
        empty += [] if found else [name]
    if empty:
        what, some = target or "result", name_some(empty, 3)
        log.warning("no %s to explain in %d of %d images: %s", what, len(empty), len(samples), some)
    if save is not None:
        _save(made, Path(save))
    return made


def explain_sample(
    network: Network,
    name: str,
    raw: NDArray[Any],
    method: str = "grad_cam",
    target: str | None = None,
    reference: Tensor | None = None,
    checks: bool = False,
) -> Iterator[Explanation]:
    """Explain the results of one image; see ``explain``.

    Args:
        network: In evaluation mode.
        name: Name of the image.
        raw: uint8 (H, W, C), the image.
        method: The method.
        target: What to explain instead of what is predicted.
        reference: float (1, D), the embedding whose similarity is explained instead.
        checks: Whether to check each map.

    Yields:
        One explanation after the other, the most important result first; each is computed on request.
    """
    image, size = _prepared(network, raw), (raw.shape[0], raw.shape[1])
    for explained in _targets(network, image, size, target, reference):
        score = Scored(network, explained, size)
        found = METHODS[method](score, image)
        yield Explanation(
            name,
            explained.name,
            method,
            found.cpu().numpy().astype(np.float32),
            as_image(image[0], network),
            explained.box,
            check_map(METHODS[method], score, image, found) if checks else None,
        )


def as_image(prepared: Tensor, network: Network) -> NDArray[np.uint8]:
    """Undo the normalization of a sample, of a clip for its middle frame.

    Args:
        prepared: float (..., C, height, width).
        network: What it was prepared for.

    Returns:
        uint8 (height, width, 3).
    """
    frame = prepared if prepared.ndim == 3 else prepared[len(prepared) // 2]
    pixels = network.preprocess.denormalize(frame[None].to(network.preprocess.mean.device))[0]
    shown = pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.asarray(shown[..., :3] if shown.shape[-1] >= 3 else shown[..., :1].repeat(3, axis=-1))


def _prepared(network: Network, raw: NDArray[Any]) -> Tensor:
    device = next(network.parameters()).device
    pixels = torch.from_numpy(np.require(raw, requirements=["C", "W"]))
    prepared: Tensor = network.preprocess_on_cpu()(pixels[None])
    return prepared.to(device)


def _targets(
    network: Network,
    image: Tensor,
    size: tuple[int, int],
    wanted: str | None,
    reference: Tensor | None,
) -> Sequence[Explained]:
    if reference is not None:
        return [
            Explained("similarity", lambda features, outputs: _cosine(features, outputs, reference))
        ]
    sizes = torch.tensor([size], device=image.device)
    with torch.no_grad():
        outputs = network.outputs(image, sizes)
    found = network.task.explained(outputs, sizes, wanted)
    if not found and not network.task.metadata().get("class_names"):
        raise OptionError(
            f"task {network.task.name!r} has no class to explain; pass similar_to=IMAGE to explain "
            "embeddings"
        )
    return found


def _embedding_of(model: TransferModel, image: Any) -> Tensor:
    samples = InputSamples.of(image, model.task.inputs)
    if len(samples) != 1:
        raise DataError(f"similar_to takes one image, not {len(samples)}")
    raw = samples.load(0, model.backbone_info.in_channels)
    prepared = _prepared(model.network, raw)
    whole = Explained("", lambda features, outputs: _vector(features, outputs))
    with torch.no_grad():
        return Scored(model.network, whole, (raw.shape[0], raw.shape[1]))(prepared)


def _cosine(features: Features, outputs: Any, reference: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(_vector(features, outputs), reference)


def _vector(features: Features, outputs: Any) -> Tensor:
    """Return the embedding of the backbone."""
    return features.pooled.float()


def _save(made: Sequence[Explanation], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, each in enumerate(made):
        each.draw().save(folder / f"{numbered(i, each.image)}-{each.method}.png")
