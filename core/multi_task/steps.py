"""One pass through the backbone for all heads, each of which works as if it were alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, Features
from visiongraft.caching.images import CachedImages
from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError, PluginError
from visiongraft.multi_task.heads import MultiHead
from visiongraft.multi_task.loss import MultiLoss
from visiongraft.multi_task.names import prefixed
from visiongraft.task import HeadFit, Task

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph, Network

log = logging.getLogger("visiongraft")


class SharedBackbone:
    """A backbone that knows its features of some images.

    Args:
        backbone: The backbone, which runs on all other images.
        images: The images.
        features: Returns their features, always the same object.
    """

    def __init__(
        self, backbone: Backbone, images: Tensor, features: Callable[[], Features]
    ) -> None:
        self.backbone, self.images, self.features = backbone, images, features

    def __call__(self, images: Tensor) -> Features:
        """Return the features of images."""
        if images is self.images:
            return self.features()
        features: Features = self.backbone(images)
        return features

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backbone, name)


class HeadView:
    """A network as the task of one head sees it.

    Args:
        network: The whole network.
        head: Name of the head.
        images: The images of the head's batch.
        features: Returns their features, always the same object.

    Attributes:
        backbone: The backbone, which does not run again on these images.
        head: The head.
        outputs: What the head returned for these features, once it has.
    """

    def __init__(
        self,
        network: Network | InferenceGraph,
        head: str,
        images: Tensor,
        features: Callable[[], Features],
    ) -> None:
        self._network, self._name = network, head
        self._head = cast(MultiHead, network.head)[head]
        self.backbone = SharedBackbone(network.backbone, images, features)
        self.preprocess = network.preprocess
        self.head = _WatchedHead(self._head, features)

    @property
    def loss(self) -> nn.Module:
        """The head's loss."""
        return cast(MultiLoss, cast("Network", self._network).loss).losses[self._name]


class _WatchedHead:
    """A head that remembers what it returned for some features."""

    def __init__(self, head: nn.Module, features: Callable[[], Features]) -> None:
        self._head, self._features = head, features
        self.outputs: Any = None

    def __call__(self, features: Features, *args: Any, **kwargs: Any) -> Any:
        outputs = self._head(features, *args, **kwargs)
        if features is self._features():
            self.outputs = outputs
        return outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._head, name)


def train_heads(
    heads: Mapping[str, Task], incomplete: tuple[str, ...], network: Network, batch: Batch
) -> dict[str, Any]:
    """Run the training step of each head on the samples that have its target.

    Args:
        heads: The task of each head.
        incomplete: Heads whose targets some training samples lack.
        network: The network.
        batch: Its targets are those of ``collate_heads``.

    Returns:
        The loss parts of all heads.
    """
    features: Features = network.backbone(batch.images)
    parts: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for name, task in heads.items():
        if name not in batch.targets:
            continue
        rows = batch.targets[name]["rows"]
        whole = len(rows) == len(batch.images)
        own = batch_of(batch, name)
        seen = features if whole else _rows_of(features, rows)
        view = HeadView(network, name, own.images, partial(_same, seen))
        step = task.training_step(cast("Network", view), own)
        count = len(rows) if name in incomplete else None
        parts |= cast(MultiLoss, network.loss)(name, step, count)
        if whole and view.head.outputs is not None:
            outputs[name] = view.head.outputs
    network.head(features, outputs)  # for those that watch the head
    idle = [name for name in heads if name not in batch.targets]
    return _touching(parts, cast(MultiHead, network.head), cast(MultiLoss, network.loss), idle)


def _touching(
    parts: dict[str, Any], head: MultiHead, loss: MultiLoss, idle: list[str]
) -> dict[str, Any]:
    """Let a loss depend on the parameters of heads without targets, with gradients of 0.

    Processes exchange gradients once a step, and have to agree on which parameters have some.
    """
    modules = [module for name in idle for module in (head[name], loss.losses[name])]
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    parameters += [loss.log_variances[name] for name in idle if name in loss.log_variances]
    if not parameters:
        return parts
    nothing = torch.stack([p.float().sum() * 0 for p in parameters]).sum()
    name, part = next(iter(parts.items()))
    touched = (part[0] + nothing, part[1]) if isinstance(part, tuple) else part + nothing
    return {**parts, name: touched}


def start_heads(
    heads: Mapping[str, Task],
    incomplete: Iterable[str],
    head: MultiHead,
    samples: Iterable[tuple[Features, Any]],
    first: HeadFit | None = None,
) -> HeadFit:
    """Let the task of each head start it from the features of the images that have its target.

    A head stays as it is if no image has its target: those of a large set are a random choice.

    Args:
        heads: The task of each head.
        incomplete: Heads that not every image has a target for.
        head: The heads; changed in place.
        samples: Batches of features, with the targets of ``collate_heads``.
        first: The result at the start of the run, if heads are fitted anew.

    Returns:
        The accuracy of the head that has the least, ``None`` if that of one is not known, and the facts of
        each by its name.
    """
    found = {}
    for name, task in heads.items():
        own = OwnSamples(name, samples)
        if name in incomplete and next(iter(own), None) is None:
            log.warning(
                "head %r is not fitted in closed form: no image that was chosen for it has its target",
                name,
            )
            found[name] = HeadFit()
            continue
        before = None if first is None else HeadFit(facts=first.facts.get(name, {}))
        found[name] = task.start_head(head[name], own, before) or HeadFit()
    known = [fit.accuracy for fit in found.values() if fit.accuracy is not None]
    least = min(known) if len(known) == len(found) else None
    return HeadFit(least, {name: dict(fit.facts) for name, fit in found.items() if fit.facts})


@dataclass(frozen=True)
class OwnSamples:
    """The features of the images that have a target for one head, with these targets."""

    head: str
    samples: Iterable[tuple[Features, Any]]

    def __iter__(self) -> Iterator[tuple[Features, Any]]:
        for features, targets in self.samples:
            if self.head in targets:
                own = targets[self.head]
                yield _rows_of(features, own["rows"]), own["targets"]


def infer_heads(
    heads: Mapping[str, Task], network: Network | InferenceGraph, images: Tensor
) -> dict[str, Any]:
    """Compute the outputs of each head, as its own inference step does."""
    features: Features = network.backbone(images)
    outputs = {
        name: task.inference_step(
            cast("Network", HeadView(network, name, images, partial(_same, features))), images
        )
        for name, task in heads.items()
    }
    found: dict[str, Any] = network.head(features, outputs)
    return found


def evaluate_heads(heads: Mapping[str, Task], network: Network, batch: Batch) -> dict[str, Tensor]:
    """Run the evaluation step of each head that has one on the samples that have its target.

    Args:
        heads: The task of each head.
        network: The network, in evaluation mode.
        batch: Its targets are those of ``collate``.

    Returns:
        What the heads compute, named ``head.name``; 0 for samples without the head's target.

    Raises:
        PluginError: A head's step does not compute one value per sample.
    """
    features = cache(partial(network.backbone, batch.images))  # which few steps need
    found: dict[str, Tensor] = {}
    for name, task in heads.items():
        if name not in batch.targets or type(task).evaluation_step is Task.evaluation_step:
            continue
        rows = batch.targets[name]["rows"]
        own = batch_of(batch, name)
        seen = cache(partial(_seen, features, rows, len(batch.images)))
        view = HeadView(network, name, own.images, seen)
        computed = task.evaluation_step(cast("Network", view), own)
        for what, values in computed.items():
            if len(values) != len(rows):
                raise PluginError(
                    f"head {name!r}: {what!r} of evaluation_step has {len(values)} rows for {len(rows)} samples"
                )
            spread = values.new_zeros((len(batch.images), *values.shape[1:]))
            spread[rows.to(values.device)] = values
            found |= prefixed(name, {what: spread})
    return found


def _seen(features: Callable[[], Features], rows: Tensor, count: int) -> Features:
    return features() if len(rows) == count else _rows_of(features(), rows)


def _same(features: Features) -> Features:
    return features


def refuse_mixing(heads: Mapping[str, Task], images: Tensor, targets: Mapping[str, Any]) -> None:
    """Refuse a task that mixes the images of a batch, whose targets of other heads would be wrong.

    Args:
        heads: The task of each head.
        images: float (N, C, height, width).
        targets: Those of ``collate``.

    Raises:
        OptionError: A task mixes them.
    """
    for name, task in heads.items():
        if name not in targets or type(task).mix is Task.mix:
            continue
        own = _own_images(images, targets[name]["rows"])
        if task.mix(own, targets[name]["targets"])[0] is not own:
            raise OptionError(
                f"head {name!r} mixes the images of a batch, as mixup does, and other heads' targets would be "
                "wrong; switch that off"
            )


def batch_of(batch: Batch, head: str) -> Batch:
    """Return the samples of a batch that have a target for one head."""
    rows = batch.targets[head]["rows"]
    return replace(
        batch,
        images=_own_images(batch.images, rows),
        targets=batch.targets[head]["targets"],
        sizes=batch.sizes[rows],
        indices=batch.indices[rows.cpu()],
    )


def _own_images(images: Tensor, rows: Tensor) -> Tensor:
    """Return some of the images; of stand-ins for images another stand-in, which nothing can read."""
    if len(rows) == len(images):
        return images
    if isinstance(images, CachedImages):
        return CachedImages.of({}, (len(rows), *images.shape[1:]), images.device)
    return images[rows]


def _rows_of(features: Features, rows: Tensor) -> Features:
    return Features(tuple(values[rows] for values in features.maps), features.pooled[rows])
