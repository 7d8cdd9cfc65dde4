"""Pretrained networks behind one interface: named stages, feature maps, a pooled embedding."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor, nn

from visiongraft.preprocess import PreprocessConfig

if TYPE_CHECKING:
    from visiongraft.adapters import AdapterChoice

log = logging.getLogger("visiongraft")


class Features(NamedTuple):
    """What a backbone makes of a batch of images.

    Those of clips have the frames as second axis: (N, T, C_i, H_i, W_i) and (N, T, embedding_dim).

    Attributes:
        maps: Feature maps (N, C_i, H_i, W_i), from fine to coarse, one per entry of
            ``Backbone.channels``.
        pooled: One embedding per image, (N, embedding_dim).
    """

    maps: tuple[Tensor, ...]
    pooled: Tensor


@dataclass(frozen=True)
class BackboneInfo:
    """The facts about a backbone that heads, schedules and reports read.

    Attributes:
        name: Full name such as ``"timm/resnet50"``; loads the same architecture again.
        stage_of: For each parameter and buffer name of the backbone the stage it belongs to; the
            stages are ordered by first appearance, from the input to the output.
        channels: Channels of each feature map.
        strides: Stride of each feature map in input pixels, ascending.
        embedding_dim: Length of the pooled embedding.
        preprocess: How images must be prepared.
        in_channels: Number of image channels.
        provenance: Where the weights came from: ``source``, ``weights``, ``license``,
            ``sha256`` as far as known.
        architecture: What beside the name is needed to build the network again, as JSON values, such as a
            configuration that was downloaded; saved models hold it. See ``BackboneSource.rebuild``.
    """

    name: str
    stage_of: dict[str, str]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    embedding_dim: int
    preprocess: PreprocessConfig
    in_channels: int = 3
    provenance: dict[str, str] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recommendation:
    """A backbone worth knowing, with published facts.

    Attributes:
        name: Full name.
        parameters: Number of parameters, in millions.
        gmacs: Multiply-accumulate operations of one image, in billions, if they are published.
        accuracy: Top-1 accuracy on ImageNet-1k, as a fraction.
        source: Who published it.
        license: License of the weights; ``"unknown"`` if none is stated.
        offline: Whether the weights are on this machine.
    """

    name: str
    parameters: float
    gmacs: float | None
    accuracy: float
    source: str
    license: str
    offline: bool


FROM_FILE = "file"  # the source of weights that a user's file contains
DATA_LICENSE = (
    "data license"  # entry of a provenance: license of the images that weights were trained on
)
IMAGES = "training images"
BEFORE = "before: "  # begins what a provenance says of the model that training continued with
UNKNOWN = "unknown"  # the license of weights for which none is stated
_NON_COMMERCIAL = re.compile(r"(?i)\bnc\b|non-?commercial|research[ -]only")
_NO_DERIVATIVES = re.compile(r"(?i)\bnd\b|no-?derivatives")
_COPYLEFT = re.compile(r"(?i)\ba?gpl")  # not of LGPL, which does not reach what uses it


def licenses(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the licenses of weights and training images, also of those that a saved model started from.

    Args:
        provenance: ``BackboneInfo.provenance``.

    Returns:
        Licenses by whose they are, the latest first; ``"unknown"`` if none of weights is stated.

    Examples:
        >>> licenses({"license": "mit", "before: license": "cc-by-nc-4.0", "data license": "cc0-1.0"})
        {'weights': 'mit', 'before: weights': 'cc-by-nc-4.0', 'training images': 'cc0-1.0'}
    """
    found = {}
    for key, value in provenance.items():
        owner = key.removesuffix("license")
        if key.endswith(DATA_LICENSE):
            found[owner.removesuffix("data ") + IMAGES] = str(value)
        elif key.rpartition(" ")[2] == "license":
            found[owner + "weights"] = str(value)
    return found if any(is_of_weights(key) for key in provenance) else {"weights": UNKNOWN, **found}


def is_of_weights(key: str) -> bool:
    """Check whether an entry of a provenance is the license of weights that training began with."""
    names = key.split(" ")
    return names[-1] == "license" and "data" not in names and "teacher:" not in names


def license_warning(name: str, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line about each license that forbids something or asks for something in return.

    Args:
        name: Full name of the backbone.
        provenance: ``BackboneInfo.provenance``, also of what a saved model started from.

    Returns:
        Lines on licenses that forbid commercial use or adaptations, are copyleft, or that a file does not state.

    Examples:
        >>> license_warning("b", {"license": "apache-2.0"})
        ()
        >>> license_warning("b", {"source": "file", "weights": "w.pth", "license": "unknown"})
        ('the license of the weights file w.pth is unknown; state it: weights_license=..., --weights-license',)
        >>> license_warning("b", {"before: license": "cc-by-nc-4.0"})
        ('the license of the weights of b, cc-by-nc-4.0, forbids commercial use, also of models made with them',)
        >>> license_warning("b", {"license": "mit", "data license": "cc-by-nc-4.0"})
        ('the license of training images, cc-by-nc-4.0, forbids commercial use, also of models made with them',)
    """
    lines = []
    stated = {(whose.endswith(IMAGES), text): None for whose, text in licenses(provenance).items()}
    for of_images, value in stated:
        what = f"the license of {IMAGES if of_images else f'the weights of {name}'}, {value}"
        if _NON_COMMERCIAL.search(value):
            lines.append(f"{what}, forbids commercial use, also of models made with them")
        if _NO_DERIVATIVES.search(value):
            lines.append(f"{what}, forbids to share adaptations, as models made with them may be")
        if _COPYLEFT.search(value):
            lines.append(
                f"{what}, asks for the source of what is distributed with them, AGPL also of what is offered as "
                "a service; check whether that suits you"
            )
    for key, value in provenance.items():
        owner, _, what = key.rpartition(" ")
        before = f"{owner} " if owner else ""
        if (what, value) == ("license", UNKNOWN) and provenance.get(f"{before}source") == FROM_FILE:
            file = provenance.get(f"{before}weights")
            lines.append(
                f"the license of the weights file {file} is unknown; state it: weights_license=..., "
                "--weights-license"
            )
    return tuple(lines)


class Backbone(nn.Module, ABC):
    """A network without its classifier, cut into ordered stages.

    Subclasses call ``super().__init__(info)`` after ``nn.Module`` parts may be assigned, and
    implement ``forward``, which takes images. Called with clips (N, T, C, H, W), it runs on all their
    frames.

    Args:
        info: What is known about the network.

    Attributes:
        adapters: The adapters that were applied and are not merged, in order.
        takes_clips: Whether ``forward`` takes clips as wholes, and returns ``Features`` without an
            axis of frames.
        observed: Names of modules whose outputs ``forward`` reads by hooks, and which must therefore be
            called for features to be complete, such as when cached ones are put in place of others.
    """

    takes_clips: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls):
            cls.forward = _over_frames(cls.forward)  # type: ignore[method-assign]

    def __init__(self, info: BackboneInfo) -> None:
        super().__init__()
        self.info = info
        self.adapters: tuple[AdapterChoice, ...] = ()
        self.observed: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, from the input to the output: ``stem, stage1, stage2, ...``."""
        return tuple(dict.fromkeys(self.info.stage_of.values()))

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Compute feature maps and embedding.

        Args:
            images: float (N, in_channels, H, W), normalized as ``info.preprocess`` defines.

        Returns:
            Maps from fine to coarse and the pooled embedding.
        """

    def unpooled(self, features: Features) -> Tensor:
        """Return the map whose mean over all positions is the embedding, for class activation maps.

        The default is the coarsest feature map. Override it if layers lie between that and the mean; where the
        embedding is no mean, nothing needs to be done, as values are compared before a map is used.

        Args:
            features: What ``forward`` returned.

        Returns:
            (N, embedding_dim, h, w), if the embedding is such a mean.
        """
        return features.maps[-1]

    def checkpointed_modules(self) -> Sequence[nn.Module]:
        """Return the modules whose activations gradient checkpointing may recompute.

        The default is none: gradient checkpointing is refused then.

        Returns:
            Modules of this backbone, none inside of another one, such as its residual blocks. Each needs
            about as much memory as its own activations while it is recomputed.
        """
        return ()

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate a published weights file into this module's own names and shapes.

        The default drops nothing and renames nothing. Sources override it to leave out the
        classifier, to resample position embeddings, or to map other names.

        Args:
            weights: Tensors by the names in the file.

        Returns:
            Tensors by the names of ``self.state_dict()``.
        """
        return weights


def _over_frames(forward: Callable[..., Features]) -> Callable[..., Features]:
    """Let the forward method of a backbone for images take clips, too."""

    @wraps(forward)
    def over_frames(self: Backbone, images: Tensor, *args: Any, **kwargs: Any) -> Features:
        if images.ndim != 5 or self.takes_clips:
            return forward(self, images, *args, **kwargs)
        clips = images.shape[:2]
        maps, pooled = forward(self, images.flatten(0, 1), *args, **kwargs)
        return Features(tuple(x.unflatten(0, clips) for x in maps), pooled.unflatten(0, clips))

    return over_frames


class BackboneSource(ABC):
    """A family of backbones under one prefix; plugins register these.

    Attributes:
        prefix: The part of the full name before the slash. Of several sources whose prefixes a name
            begins with, the one with the longest prefix provides it.
    """

    prefix: str

    @abstractmethod
    def names(self) -> Sequence[str]:
        """List the names after the slash, without building anything.

        A source that accepts more names than can be listed lists some that are worth knowing.
        """

    def accepts(self, name: str) -> bool:
        """Check whether this source provides a backbone, without building or downloading anything.

        The default looks the name up in ``names()``. It is also asked for full names that have no prefix.

        Args:
            name: The part of a full name after the prefix and the slash.
        """
        return name in self.names()

    def lacks(self, name: str) -> str:
        """Say what must be installed before this source can provide a name that it does not accept.

        Args:
            name: The part of a full name after the prefix and the slash.

        Returns:
            A line with the remedy; nothing by default.
        """
        return ""

    def recommended(self) -> Sequence[Recommendation]:
        """Return backbones worth knowing, for ``visiongraft backbones``; by default none."""
        return ()

    def example(self) -> str:
        """Return the name of a small backbone, for ``visiongraft.testing`` to try the source on."""
        return self.names()[0]

    @abstractmethod
    def build(
        self,
        name: str,
        *,
        pretrained: bool,
        in_channels: int = 3,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        """Make one backbone.

        Args:
            name: A name that it accepts.
            pretrained: Load the weights this source publishes; if they cannot be loaded, raise
                ``WeightsError`` with what to do instead.
            in_channels: Number of image channels.
            size: Height and width of the network input, or the architecture's own.

        Returns:
            The backbone in training mode, with random weights if not ``pretrained``.

        Raises:
            BackboneError: The architecture refuses this size or number of channels.
            WeightsError: Its published weights could not be downloaded or read.
        """

    def rebuild(
        self,
        name: str,
        architecture: Mapping[str, Any],
        *,
        in_channels: int,
        size: tuple[int, int],
    ) -> Backbone:
        """Make the backbone of a saved model, with random weights; by default as ``build`` does.

        Args:
            name: A name that it accepts.
            architecture: ``BackboneInfo.architecture`` of the backbone that was saved, if it has any.
            in_channels: Number of image channels.
            size: Height and width of the network input.
        """
        return self.build(name, pretrained=False, in_channels=in_channels, size=size)

    def build_classifier(
        self, name: str, weights: Mapping[str, Tensor] | None = None
    ) -> nn.Module | None:
        """Make the classifier that a backbone's weights were trained with, for transfer losses.

        Args:
            name: A name that it accepts.
            weights: Tensors of a published file by its own names; ``None`` for the weights that
                this source publishes.

        Returns:
            A module from pooled embeddings (N, embedding_dim) to logits (N, source classes);
            ``None``, as by default, if there is none.

        Raises:
            WeightsError: The published weights could not be downloaded or read.
        """
        return None


def name_stages(numbers: Mapping[str, int], prefix: str = "") -> dict[str, str]:
    """Convert stage numbers to the names ``stem, stage1, stage2, ...`` without gaps.

    Args:
        numbers: Number by tensor name, smaller numbers closer to the input.
        prefix: Prefix of the tensors' names.

    Returns:
        Stage by tensor name, ordered from the input to the output.

    Examples:
        >>> name_stages({"head.weight": 7, "conv.weight": 0})
        {'conv.weight': 'stem', 'head.weight': 'stage1'}
    """
    rank = {number: i for i, number in enumerate(sorted(set(numbers.values())))}
    return {
        f"{prefix}{name}": f"stage{rank[number]}" if rank[number] else "stem"
        for name, number in sorted(numbers.items(), key=lambda item: item[1])
    }


class PooledHead(nn.Module):
    """A head that applies a classifier to the embedding.

    Args:
        classifier: From pooled embeddings (N, embedding_dim) to logits (N, classes).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Features) -> Tensor:
        """Compute logits, (N, classes)."""
        logits: Tensor = self.classifier(features.pooled)
        return logits


def backbone_names(sources: Iterable[BackboneSource]) -> list[str]:
    """List the full names that these sources provide, in their order.

    Args:
        sources: Where to look.

    Returns:
        Names that ``load_backbone`` accepts.
    """
    return [
        f"{source.prefix}/{name}" if source.prefix else name
        for source in sources
        for name in names_in(source)
    ]


def split_names(name: str) -> Iterator[tuple[str, str]]:
    """Split a full name into prefix and rest in every way, the longest prefix first.

    Args:
        name: A full name.

    Yields:
        Prefix and rest; at last an empty prefix and the whole name.

    Examples:
        >>> list(split_names("a/b/c"))
        [('a/b', 'c'), ('a', 'b/c'), ('', 'a/b/c')]
    """
    parts = name.split("/")
    for cut in range(len(parts) - 1, -1, -1):
        yield "/".join(parts[:cut]), "/".join(parts[cut:])


def is_accepted(source: BackboneSource, name: str) -> bool:
    """Check whether a source accepts a name; a broken source is logged and accepts none."""
    try:
        return source.accepts(name)
    except Exception as error:  # a third-party source may raise any error
        log.warning("backbones of %r cannot be looked up: %r", source.prefix, error)
        return False


def names_in(source: BackboneSource) -> Sequence[str]:
    """List a source's names; a broken source is logged and has none."""
    try:
        return source.names()
    except Exception as error:  # a third-party source may raise any error
        log.warning("backbones of %r cannot be listed: %r", source.prefix, error)
        return ()
