"""``zero_shot``: a classifier whose classes are described in words."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visiongraft.backbone import Backbone, license_warning
from visiongraft.calibration import best_factor
from visiongraft.errors import OptionError, PluginError
from visiongraft.inputs import IMAGES
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.tasks import requested_task
from visiongraft.lookup.text_encoders import find_text_source, load_text_encoder
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.options import checks_keywords, is_number
from visiongraft.registry.manager import plugins
from visiongraft.saving.weight_origins import TEXT
from visiongraft.task import Task, create_task
from visiongraft.task_contract.optional import OptionalMethods
from visiongraft.task_contract.text_head import TextHead
from visiongraft.text.labeled import LabeledImages, embed_labeled
from visiongraft.text.mapping import choose_seen_penalty, fit_map
from visiongraft.text.prompts import TEMPLATES, Classes, class_texts, class_vectors
from visiongraft.text_encoders import Pairing, TextEncoder

log = logging.getLogger("visiongraft")

SCALES = np.logspace(0, 3, 121)  # of cosines
FACT = "zero-shot"  # the fact of the model that tells how it was made
ENCODER, TEXTS, TEMPLATE_FACT = "text encoder", "texts", "templates"  # and what it contains
CENTERED = "vectors centered on their mean"


@checks_keywords
def zero_shot(
    classes: Classes,
    backbone: str | Path | nn.Module,
    *,
    text: str | None = None,
    templates: str | Sequence[str] = TEMPLATES,
    data: Any = None,
    seen_penalty: float | None = None,
    weights: str | None = "pretrained",
    in_channels: int = 3,
    size: int | tuple[int, int] | None = None,
    resize: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
    task: str | Task | None = None,
    task_options: Mapping[str, Any] | None = None,
) -> TransferModel:
    """Make a classifier of classes that are described in words.

    The vectors of texts about the classes are the weights of its last layer, so that the model, and the file
    that it is exported to, contain no text encoder. A backbone that was trained together with a text
    encoder (CLIP, SigLIP) needs no images. With any other pair of backbone and encoder, ``data`` has images
    of some of the classes: a linear map from images to the space of texts is fitted to these, and
    recognizes the others, too.

    Args:
        classes: Class names; or by name one word or several to write in place of it.
        backbone: As for ``fit``, such as ``"open_clip/ViT-B-32.openai"`` or
            ``"bundled/efficientnet_lite0"``.
        text: The text encoder, such as ``"wordllama"``; that of the backbone if ``None``.
        templates: Texts with ``{}`` in place of the class; the vectors of several are averaged.
        data: Labeled images, in any form that ``fit`` takes. Their training images set the temperature of
            the probabilities, and fit the map if one is needed.
        seen_penalty: What is subtracted from the cosines of classes with images, where a map is fitted
            and other classes have none; chosen by leaving classes out if ``None``.
        weights: ``"pretrained"``, or ``None`` for random ones, as to try things out.
        in_channels: Number of image channels.
        size: Network input; the backbone's own if ``None``.
        resize: ``"crop"``, ``"stretch"`` or ``"pad"``; as the backbone was trained if ``None``.
        validation: Fraction of ``data`` to hold out if it has no validation split.
        seed: Seed of that split.
        task: A task that recognizes classes by texts; the only installed one of images if ``None``.
        task_options: Options of the task.

    Returns:
        The model, to evaluate, save, export or train further: ``fit(..., start=model)``.

    Raises:
        DataError: The data cannot be read, or have another class.
        OptionError: The encoder and the backbone were not trained together, and there are no data; or an
            argument is invalid.
        PluginError: There is no such text encoder.
        WeightsError: Weights could not be downloaded or read.

    Examples:
        ``visiongraft.zero_shot(["cat", "dog"], "open_clip/ViT-B-32.openai").export("pets.onnx")``
    """
    texts = class_texts(classes, templates)
    if weights not in ("pretrained", None):
        raise OptionError(
            f"weights={weights!r}: the image and the text encoder must belong together; pass the folder of "
            "the network as backbone"
        )
    if seen_penalty is not None and not is_number(seen_penalty):
        raise OptionError(f"seen_penalty={seen_penalty!r} is not a number")
    chosen = _task(task, task_options)
    loaded = load_backbone(backbone, weights, in_channels=in_channels, size=size).eval()
    if text is None:
        encoder = _own_encoder(backbone, loaded.info.name, weights)
    else:
        encoder = load_text_encoder(text, weights)
    if resize is not None:
        loaded.info = replace(
            loaded.info, preprocess=replace(loaded.info.preprocess, resize=resize)
        )
    pairing = _pairing(encoder, loaded, text is None or text == str(backbone))
    if pairing is None and data is None:
        raise OptionError(
            f"text encoder {encoder.info.name!r} and backbone {loaded.info.name!r} were not trained together; "
            "pass data=PATH, labeled images of some of the classes"
        )
    vectors = class_vectors(encoder, texts)
    first = _paired(vectors, pairing) if pairing is not None else _unfitted(vectors, loaded)
    bound = chosen.with_text_head(tuple(texts), first)
    if bound is None:
        raise OptionError(f"task {chosen.name!r} does not recognize classes by texts")
    images = None if data is None else embed_labeled(bound, loaded, data, validation, seed)
    made = _Made(first, {})
    if images is not None:
        names = tuple(texts)
        if pairing is not None:
            made = _calibrated(first, images)
        else:
            made = _mapped(vectors, names, images, seen_penalty)
    return _model(bound, loaded, encoder, made, texts, templates, images)


@dataclass(frozen=True)
class _Made:
    """A classifier, and facts about how it was made."""

    head: TextHead
    facts: dict[str, Any]


def _task(task: str | Task | None, options: Mapping[str, Any] | None) -> Task:
    """Find the task."""
    if task is not None:
        return requested_task(task, options)
    able = [
        kind
        for kind in plugins().tasks().values()
        if kind.with_text_head is not OptionalMethods.with_text_head and kind.inputs == IMAGES
    ]
    if len(able) != 1:
        names = ", ".join(kind.name for kind in able) or "none is installed"
        raise OptionError(f"task is missing: pass task=NAME, one that recognizes texts ({names})")
    return create_task(able[0], options or {})


def _own_encoder(backbone: str | Path | nn.Module, full: str, weights: str | None) -> TextEncoder:
    """Load the text encoder of the same name as a backbone, whose prefix a user may have left out."""
    if not isinstance(backbone, nn.Module):
        prefix = full.partition("/")[0]
        for name in (str(backbone), f"{prefix}/{backbone}"):
            try:
                find_text_source(name)
            except PluginError:
                continue
            return load_text_encoder(name, weights)
    what = "the network" if isinstance(backbone, nn.Module) else f"backbone {str(backbone)!r}"
    raise OptionError(
        f"{what} has no text encoder of its own; pass text=NAME, such as 'wordllama', and data=PATH"
    )


def _pairing(encoder: TextEncoder, backbone: Backbone, same_name: bool) -> Pairing | None:
    """Return how the two are compared; ``None`` if they were not trained together."""
    pairing = encoder.info.pairing
    if pairing is None or not (same_name or pairing.backbone == backbone.info.name):
        return None
    width = encoder.info.dim if pairing.projection is None else pairing.projection.shape[1]
    if width != backbone.info.embedding_dim:
        raise PluginError(
            f"text encoder {encoder.info.name!r} compares with embeddings of {width} numbers, but "
            f"{backbone.info.name!r} has {backbone.info.embedding_dim}"
        )
    return pairing


def _paired(vectors: NDArray[np.float64], pairing: Pairing) -> TextHead:
    projection = pairing.projection
    return TextHead(
        pairing.scale * vectors,
        np.full(len(vectors), pairing.bias),
        None if projection is None else projection.astype(np.float64),
    )


def _unfitted(vectors: NDArray[np.float64], backbone: Backbone) -> TextHead:
    """Return a classifier of the shape that a fitted one will have."""
    count, dim = vectors.shape
    return TextHead(vectors, np.zeros(count), np.zeros((dim, backbone.info.embedding_dim)))


def _calibrated(head: TextHead, images: LabeledImages) -> _Made:
    """Set the scale of logits by labeled images."""
    embedded = images.features
    if head.projection is not None:
        embedded = embedded @ head.projection.T
    embedded = embedded / np.maximum(np.linalg.norm(embedded, axis=1, keepdims=True), 1e-12)
    unit = head.weight / np.linalg.norm(head.weight, axis=1, keepdims=True)
    before = float(np.linalg.norm(head.weight[0]))
    scale = best_factor(embedded @ unit.T, images.labels, SCALES)
    facts = {"temperature": before / scale, "temperature from images": len(images.labels)}
    return _Made(replace(head, weight=scale * unit, bias=head.bias * scale / before), facts)


def _mapped(
    vectors: NDArray[np.float64],
    names: Sequence[str],
    images: LabeledImages,
    penalty: float | None,
) -> _Made:
    """Fit a map from images to texts, and penalize the classes that it was fitted to."""
    features, labels = images.features, images.labels
    # What all classes share tells none from another.
    vectors = centered_on(vectors.mean(axis=0), vectors)
    seen = np.unique(labels)
    unseen = [name for i, name in enumerate(names) if i not in seen]
    facts: dict[str, Any] = {"classes with images": [names[i] for i in seen], CENTERED: True}
    fitted = fit_map(features, labels, vectors)
    scale = best_factor(
        fitted.cosines[:, seen], np.searchsorted(seen, labels).astype(np.int64), SCALES
    )
    bias = np.zeros(len(vectors))
    if unseen:
        if penalty is None:
            penalty = choose_seen_penalty(features, labels, vectors)
        if penalty is None:
            penalty = 0.0
            log.warning(
                "with images of %d classes, no penalty on these can be chosen, so that classes without images "
                "are hardly ever predicted; pass seen_penalty",
                len(seen),
            )
        facts |= {"classes without images": unseen, "penalty on classes with images": penalty}
        bias[seen] = -scale * penalty
    head = TextHead(scale * vectors, bias, fitted.projection, fitted.offset)
    return _Made(head, {**facts, "scale of cosines": float(scale)})


def centered_on(center: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions from a point to vectors, as vectors of length 1."""
    moved = vectors - center
    unit: NDArray[np.float64] = moved / np.maximum(
        np.linalg.norm(moved, axis=1, keepdims=True), 1e-12
    )
    return unit


def _model(
    task: Task,
    backbone: Backbone,
    encoder: TextEncoder,
    made: _Made,
    texts: Mapping[str, Sequence[str]],
    templates: str | Sequence[str],
    images: LabeledImages | None,
) -> TransferModel:
    """Put backbone and classifier together, with what is known about both."""
    origin = {f"{TEXT}{key}": value for key, value in encoder.info.provenance.items()}
    backbone.info = replace(backbone.info, provenance={**backbone.info.provenance, **origin})
    for line in license_warning(backbone.info.name, backbone.info.provenance):
        log.warning("%s", line)
    network = Network(backbone, task).eval()
    with torch.no_grad():
        task.set_text_head(network.head, made.head)
    facts: dict[str, Any] = {
        FACT: {
            ENCODER: encoder.info.name,
            TEMPLATE_FACT: [templates] if isinstance(templates, str) else list(templates),
            TEXTS: {name: list(each) for name, each in texts.items()},
            **made.facts,
        }
    }
    if images is None:
        return TransferModel(network, facts)
    facts["data"] = images.facts
    return TransferModel(network, facts, images.validation, training_images=images.digests)
