"""Image generation as a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.data.batch import Batch
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import OptionError
from visiongraft.inputs import Latents
from visiongraft.loss_parts import LossParts
from visiongraft.network import InferenceGraph, Network
from visiongraft.optimizers import OptimizerSpec
from visiongraft.options import check_choice, check_integer, is_integer, is_number
from visiongraft.plugins.adversarial.augmentation import AUGMENTATIONS
from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.generation.data import read_evaluation, read_splits
from visiongraft.plugins.generation.example import make_dataset
from visiongraft.plugins.generation.gan import critic_parts, generator_parts
from visiongraft.plugins.generation.generators import ConvGenerator, MlpGenerator
from visiongraft.plugins.generation.head import (
    AdversarialHead,
    AutoencoderHead,
    EmbeddingCritic,
    MapsCritic,
)
from visiongraft.plugins.generation.methods import reconstruct, sample
from visiongraft.plugins.generation.metrics import GenerationMetrics
from visiongraft.plugins.generation.prediction import Generated, predictions
from visiongraft.plugins.generation.vae import autoencoder_measurements, autoencoder_parts
from visiongraft.plugins.image_sets.features import check_features
from visiongraft.task import Arrays, Decoded, Task, TaskExamples

METHODS = ("vae", "gan")
CRITICS = ("embedding", "maps")
GENERATORS = ("conv", "mlp")


@dataclass(frozen=True)
class Generation(Task):
    """Generate images like those of a dataset.

    The backbone sees images, in training alone: it is the encoder of an autoencoder, or the critic of
    adversarial training. The head makes images of latents, and is all that an exported file contains.

    Attributes:
        method: ``"vae"``, a variational autoencoder, or ``"gan"``, adversarial training.
        latents: Values of a latent, the vector that an image is made of.
        generator: ``"conv"``, enlarging and convolutions, or ``"mlp"``, fully connected layers.
        width: Channels of the last map of a convolutional generator.
        hidden: Width of each hidden layer of a fully connected generator.
        beta: Weight of the divergence in the loss of an autoencoder.
        critic: What the critic scores: the backbone's ``"embedding"`` of an image, or each of its
            ``"maps"``.
        adversarial_loss: ``"non_saturating"``, ``"hinge"`` or ``"least_squares"``.
        penalty: Weight of the gradient penalty R1 on the critic; 0 for none.
        augment: What is changed at random in all images that the critic sees: some of ``"color"``,
            ``"translation"`` and ``"cutout"``.
        features: Name of the pretrained backbone by whose features generated images are compared with
            real ones.
        features_size: Height and width of the images that it gets; its own if ``None``.
    """

    name: ClassVar[str] = "generation"
    pipeline_tag: ClassVar[str] = "unconditional-image-generation"
    headline: ClassVar[str] = "kid"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    bounds: ClassVar[tuple[float, float]] = (float("-inf"), float("inf"))
    schedule_options: ClassVar[Mapping[str, Any]] = {"batch_norm": "train", "layer_decay": 1.0}

    method: Literal["vae", "gan"] = "vae"
    latents: int = 64
    generator: Literal["conv", "mlp"] = "conv"
    width: int = 32
    hidden: tuple[int, ...] = (256, 256)
    beta: float = 1.0
    critic: Literal["embedding", "maps"] = "embedding"
    adversarial_loss: Literal["non_saturating", "hinge", "least_squares"] = "non_saturating"
    penalty: float = 1.0
    augment: tuple[str, ...] = ("color", "translation", "cutout")
    features: str = "bundled/efficientnet_lite0"
    features_size: int | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("generator", self.generator, GENERATORS)
        check_choice("adversarial_loss", self.adversarial_loss, list(ADVERSARIAL_LOSSES))
        check_choice("critic", self.critic, CRITICS)
        check_integer("width", self.width, least=1)
        if self.features_size is not None:
            check_integer("features_size", self.features_size, least=1)
        if not self.hidden or not all(is_integer(width, 1) for width in self.hidden):
            raise OptionError(f"hidden={self.hidden!r} is not a tuple of integers of at least 1")
        for option in ("beta", "penalty"):
            value = getattr(self, option)
            if not (is_number(value) and value >= 0):
                raise OptionError(f"{option}={value!r} is not a number of at least 0")
        for kind in self.augment:
            check_choice("augment", kind, list(AUGMENTATIONS))
        check_integer("latents", self.latents, least=1)

    @property
    def inputs(self) -> Latents:  # type: ignore[override]
        return Latents(self.latents)

    @property
    def adversarial(self) -> bool:  # type: ignore[override]
        return self.method == "gan"

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, self.inputs, validation, seed)

    def claims(self, data: Any) -> bool:
        """Claim nothing: generators learn from any images, also from those that show another task."""
        return False

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, self.inputs)

    def bind(self, train: Samples) -> Self:
        """Check the feature network of the metrics before anything is trained."""
        check_features(self.features, self.features_size)
        return self

    def collate(self, targets: list[Any]) -> Any:
        """Combine the images that latents are compared with; images to train on have no targets."""
        if any(target is None for target in targets):
            return None
        return [torch.from_numpy(np.require(t, requirements=["C", "W"])) for t in targets]

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        channels, size = backbone.info.in_channels, backbone.info.preprocess.size
        if channels not in (1, 3):
            raise OptionError(f"images of {channels} channels are not generated; use 1 or 3")
        generator: nn.Module
        if self.generator == "conv":
            generator = ConvGenerator(self.latents, channels, size, self.width)
        else:
            generator = MlpGenerator(self.latents, channels, size, self.hidden)
        dim = backbone.info.embedding_dim
        if self.method == "vae":
            return AutoencoderHead(generator, self.latents, dim)
        of_maps = self.critic == "maps"
        critic = MapsCritic(backbone.info.channels) if of_maps else EmbeddingCritic(dim)
        return AdversarialHead(generator, self.latents, critic)

    def build_loss(self) -> nn.Module:
        return nn.Identity()  # the losses have no parameters; the critic is backbone and head

    def optimizers(self) -> tuple[OptimizerSpec, ...]:
        if self.method == "vae":
            return ()
        options = {"betas": (0.5, 0.999)}  # as in the DCGAN paper
        return (
            OptimizerSpec("critic", ("backbone", "head.critic"), "adamw", options),
            OptimizerSpec("generator", ("head.mapping", "head.generator"), "adamw", options),
        )

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        if self.method == "vae":
            return autoencoder_parts(network, batch.images, self.beta)
        loss = ADVERSARIAL_LOSSES[self.adversarial_loss]
        if batch.step.optimizer == "critic":
            return critic_parts(network, batch.images, loss, self.penalty, self.augment)
        return generator_parts(network, len(batch.images), loss, self.augment)

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Tensor:
        assert isinstance(network.head, AutoencoderHead | AdversarialHead)
        return network.head.generate(images)

    def evaluation_step(self, network: Network, batch: Batch) -> Mapping[str, Tensor]:
        if self.method == "gan":
            return {}
        return autoencoder_measurements(network, batch.targets, batch.images)

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        return {"images": outputs.float().sigmoid()}

    def build_metrics(self) -> GenerationMetrics:
        return GenerationMetrics(self.features, self.features_size)

    def predictions(self, decoded: Arrays) -> list[Generated]:
        return predictions(decoded, self.metadata())

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        methods: dict[str, Callable[..., Any]] = {"sample": sample}
        return methods | ({"reconstruct": reconstruct} if self.method == "vae" else {})

    def examples(self) -> TaskExamples:
        return TaskExamples(make_dataset)
