"""The task of embedding faces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.options import (
    check_choice,
    check_flag,
    check_fraction,
    check_integer,
    is_number,
)
from visiongraft.plugins.face_embedding.batches import balanced_batches
from visiongraft.plugins.face_embedding.data import check_trainable, read_evaluation, read_splits
from visiongraft.plugins.face_embedding.example import write_folder
from visiongraft.plugins.face_embedding.faces import Face, FaceSamples
from visiongraft.plugins.face_embedding.formats.reading import has_identity_files
from visiongraft.plugins.face_embedding.gallery.gallery import Gallery
from visiongraft.plugins.face_embedding.gallery.verification import verify
from visiongraft.plugins.face_embedding.head import EmbeddingHead, PooledEmbedding
from visiongraft.plugins.face_embedding.networks.source import read_published
from visiongraft.plugins.face_embedding.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.plugins.whole_images.embedded import Embedded, predictions
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task, TaskExamples, Transform
from visiongraft.task_contract.published import Published

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph, Network
    from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics

LOSS_NAMES = ("softmax", "arcface", "cosface", "sphereface", "triplet", "contrastive")
OVER_PAIRS = ("triplet", "contrastive")
DEFAULT_IMAGES_PER_IDENTITY = 4  # with losses over pairs


@dataclass(frozen=True)
class FaceEmbedding(Task):
    """Embed images as unit vectors that are close together if they show the same identity.

    Attributes:
        dimension: Length of the embedding.
        head: ``"linear"``, or ``"none"`` for the embedding of a backbone that was trained to embed, of which
            ``dimension`` must then be the length; neck and dropout are not used.
        neck: ``"batch_norm"`` after the embedding layer, or ``"none"``.
        dropout: Fraction of the inputs of the embedding layer to drop in training, in [0, 1).
        loss: ``"softmax"``, ``"arcface"``, ``"cosface"``, ``"sphereface"`` (each with a learned
            vector per identity), ``"triplet"`` or ``"contrastive"`` (among the images of a batch).
        margin: Margin of the loss; its default if ``None``.
        scale: Factor of the similarities in the loss; its default if ``None``, which for ArcFace
            and CosFace grows with the number of identities.
        sampled_identities: Number of identities that a training step compares with, for datasets
            with very many; 0 for all. Only for losses with a vector per identity.
        images_per_identity: Number of images of each identity in a batch; 0 for random batches.
            ``None`` means 4 for triplet and contrastive losses, otherwise 0.
        augment: ``"none"``, ``"light"`` (slight geometric and lighting changes) or ``"strong"``.
        flip: Whether augmentation flips images horizontally.
        mirror: Whether to add the embeddings of an image and its mirror image, in evaluation,
            prediction and the exported file.
        align: Whether to align images with landmarks.
        threshold: Lowest cosine similarity at which two images count as the same identity; if
            ``None``, it is chosen on the validation pairs after training, where they can show it.
        false_accept_rate: The fraction of pairs of two identities that the chosen threshold
            accepts.
        identities: Number of identities in training, set by ``bind``.
        aligned: Whether the training images were aligned by landmarks, set by ``bind``.
    """

    name: ClassVar[str] = "face_embedding"
    metrics_over_pairs: ClassVar[bool] = True
    pipeline_tag: ClassVar[str] = "image-feature-extraction"
    whole_image_targets: ClassVar[bool] = True
    headline: ClassVar[str] = "verification_accuracy"
    resize: ClassVar[Literal["crop", "stretch"] | None] = "stretch"
    input_size: ClassVar[tuple[int, int] | None] = (112, 112)

    dimension: int = 512
    head: Literal["linear", "none"] = "linear"
    neck: Literal["batch_norm", "none"] = "batch_norm"
    dropout: float = 0.0
    loss: Literal["softmax", "arcface", "cosface", "sphereface", "triplet", "contrastive"] = (
        "arcface"
    )
    margin: float | None = None
    scale: float | None = None
    sampled_identities: int = 0
    images_per_identity: int | None = None
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = True
    mirror: bool = False
    align: bool = True
    threshold: float | None = None
    false_accept_rate: float = 0.01
    identities: int = 0
    aligned: bool = False

    @property
    def loss_over_pairs(self) -> bool:  # type: ignore[override]
        return self.loss in OVER_PAIRS

    def __post_init__(self) -> None:
        check_choice("head", self.head, ("linear", "none"))
        check_choice("neck", self.neck, ("batch_norm", "none"))
        check_choice("loss", self.loss, LOSS_NAMES)
        check_choice("augment", self.augment, AUGMENTATIONS)
        for name in ("flip", "mirror", "align", "aligned"):
            check_flag(name, getattr(self, name))
        self._check_numbers()

    def _check_numbers(self) -> None:
        check_integer("dimension", self.dimension, least=2)
        check_integer("sampled_identities", self.sampled_identities, least=0)
        check_integer("identities", self.identities, least=0)
        check_fraction("dropout", self.dropout)
        for name in ("margin", "scale"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value > 0):
                raise OptionError(f"{name}={value!r} is not a number above 0")
        margin, threshold, images = self.margin, self.threshold, self.images_per_identity
        if self.loss == "sphereface" and margin is not None and margin != int(margin):
            raise OptionError(f"margin={margin!r} must be an integer for SphereFace")
        if self.sampled_identities and self.loss in OVER_PAIRS:
            raise OptionError(
                f"sampled_identities={self.sampled_identities} requires a loss with a vector per "
                f"identity, which {self.loss} does not have"
            )
        if images is not None:
            check_integer("images_per_identity", images, least=0)
        if images is not None and images < 2 and self.loss in OVER_PAIRS:
            raise OptionError(
                f"images_per_identity={images} leaves the {self.loss} loss without pairs of one "
                "identity; use 2 or more"
            )
        if threshold is not None and not (is_number(threshold) and -1 <= threshold <= 1):
            raise OptionError(f"threshold={threshold!r} is not a cosine in -1..1")
        rate = self.false_accept_rate
        if not (is_number(rate) and 0 < rate < 1):
            raise OptionError(f"false_accept_rate={rate!r} is not a fraction in (0, 1)")

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        rate = self.false_accept_rate if self.threshold is None else None
        return read_splits(
            data, align=self.align, validation=validation, seed=seed, false_accept_rate=rate
        )

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, self.align)

    def claims(self, data: Any) -> bool:
        """Check for the files of CelebA or LFW; folders of identities look like folders of classes.

        What the files say is not read, so that a damaged list does not leave the folder to classification.
        """
        return isinstance(data, (str, Path)) and has_identity_files(Path(data))

    def bind(self, train: Samples) -> FaceEmbedding:
        """Count the identities; their names are not kept.

        Args:
            train: Training samples that ``read`` returned.

        Returns:
            The task to train.

        Raises:
            DataError: ``read`` did not return the samples, or they show only one identity.
        """
        if not isinstance(train, FaceSamples) or not train.identities:
            raise DataError(f"bind takes the samples of read(), not {type(train).__name__}")
        check_trainable(train)
        return replace(self, identities=train.identities, aligned=train.aligned)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def collate(self, targets: list[Face]) -> dict[str, Any]:
        """Collate targets to a batch.

        Args:
            targets: One target per image.

        Returns:
            ``labels``, int64 (N,), for the loss; the lists ``identities``, ``indices`` and
            ``pairs`` of length N for the metrics.
        """
        return {
            "labels": torch.tensor([face.label for face in targets], dtype=torch.int64),
            "identities": [face.identity for face in targets],
            "indices": [face.index for face in targets],
            "pairs": [face.pairs for face in targets],
        }

    def identity_ids(self, targets: Sequence[Face]) -> list[int]:
        """Return the class id of the identity of each image."""
        return [face.label for face in targets]

    def batch_sampler(
        self, samples: Samples, batch_size: int, processes: int, *, seed: int, epoch: int
    ) -> list[list[list[int]]] | None:
        images = self.images_per_identity
        if images is None:
            images = DEFAULT_IMAGES_PER_IDENTITY if self.loss in OVER_PAIRS else 0
        if not images:
            return None
        labels = [samples.target(i).label for i in range(len(samples))]
        return balanced_batches(labels, batch_size, images, processes, seed=seed, epoch=epoch)

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        if self.head == "none":
            length = backbone.info.embedding_dim
            if length != self.dimension:
                raise OptionError(
                    f"head='none' takes the embedding of {backbone.info.name}, of length {length}; pass "
                    f"dimension={length} instead of {self.dimension}"
                )
            return PooledEmbedding()
        return EmbeddingHead(
            backbone.info.embedding_dim, self.dimension, self.dropout, self.neck == "batch_norm"
        )

    def read_published(self, tensors: Mapping[str, Tensor]) -> Published | None:
        """Recognize published checkpoints of networks for faces."""
        return read_published(tensors)

    def build_loss(self) -> nn.Module:
        # The library takes seconds to import, and prediction does not need it.
        from visiongraft.plugins.face_embedding.loss import (
            LOSSES,
            ClassWeightLoss,
            PairLoss,
            UnboundLoss,
            default_scale,
        )

        kind = LOSSES[self.loss]
        margin = kind.margin if self.margin is None else self.margin
        scale = self.scale or kind.scale or default_scale(self.identities)
        if kind.over_pairs:
            return PairLoss(self.loss, margin, scale)
        if (
            not self.identities
        ):  # of a model that was not trained here, which can predict all the same
            return UnboundLoss()
        return ClassWeightLoss(
            self.loss, self.identities, self.dimension, margin, scale, self.sampled_identities
        )

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Tensor:
        """Compute embeddings, with the option ``mirror`` also those of the mirror images."""
        embeddings: Tensor = network.head(network.backbone(images))
        if not self.mirror:
            return embeddings
        mirrored: Tensor = network.head(network.backbone(images.flip(3)))
        return _unit(embeddings) + _unit(mirrored)

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        """Normalize embeddings to unit vectors.

        Args:
            outputs: (N, D), not normalized.
            sizes: Not used.

        Returns:
            ``embedding``, float32 (N, D).
        """
        return {"embedding": _unit(outputs)}

    def build_metrics(self) -> FaceMetrics:
        from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics

        return FaceMetrics(self.false_accept_rate)

    def predictions(self, decoded: Arrays) -> list[Embedded]:
        return predictions(decoded, self.metadata())

    def after_training(self, results: Mapping[str, Any]) -> FaceEmbedding:
        """Set the threshold for the false accept rate, if the validation pairs can show it."""
        if self.threshold is not None or results.get("threshold") is None:
            return self
        return replace(self, threshold=float(results["threshold"]))

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        from visiongraft.plugins.face_embedding.evaluation.match_rates import match_rates

        return {"verify": verify, "gallery": Gallery, "match_rates": match_rates}

    def metadata(self) -> dict[str, Any]:
        return {
            "dimension": self.dimension,
            "similarity": "cosine",
            "threshold": self.threshold,
            "aligned": self.aligned,
        }

    def examples(self) -> TaskExamples:
        return TaskExamples(write_folder, self._ideal)

    def _ideal(self, targets: dict[str, Any]) -> Arrays:
        rows = [_vector_of(name, self.dimension) for name in targets["identities"]]
        return {"embedding": np.stack(rows)}


def _unit(vectors: Tensor) -> Tensor:
    """Divide vectors by their lengths, in float32; a vector of length 0 stays unchanged."""
    return F.normalize(vectors.to(torch.float32), dim=1)


def _vector_of(name: str, dimension: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a unit vector that is specific to a name."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
