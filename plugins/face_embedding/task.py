"""Face embedding as a task."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone
from visiongraft.data.samples import Samples, Splits
from visiongraft.errors import DataError, OptionError, near_matches
from visiongraft.plugins.face_embedding.batches import balanced_batches
from visiongraft.plugins.face_embedding.data import check_trainable, read_evaluation, read_splits
from visiongraft.plugins.face_embedding.example import write_folder
from visiongraft.plugins.face_embedding.faces import Face, FaceSamples
from visiongraft.plugins.face_embedding.gallery.gallery import Gallery
from visiongraft.plugins.face_embedding.gallery.verification import embed, verify
from visiongraft.plugins.face_embedding.head import EmbeddingHead
from visiongraft.plugins.face_embedding.prediction import Embedded, predictions
from visiongraft.plugins.face_embedding.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task, TaskExamples, Transform

if TYPE_CHECKING:
    from visiongraft.network import InferenceGraph, Network
    from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics

LOSS_NAMES = ("softmax", "arcface", "cosface", "sphereface", "triplet", "contrastive")
OVER_PAIRS = ("triplet", "contrastive")
PER_IDENTITY = 4


@dataclass(frozen=True)
class FaceEmbedding(Task):
    """Turn images into unit vectors that are near each other where they show one identity.

    Attributes:
        dimension: Length of the embedding.
        neck: ``"batch_norm"`` after the embedding layer, or ``"none"``.
        dropout: Share of the embedding layer's inputs that is dropped in training, in [0, 1).
        loss: ``"softmax"``, ``"arcface"``, ``"cosface"``, ``"sphereface"`` (each with a learned
            vector per identity), ``"triplet"`` or ``"contrastive"`` (among the images of a batch).
        margin: The loss's margin; its usual one if ``None``.
        scale: What the loss multiplies similarities by; its usual one if ``None``, which for ArcFace
            and CosFace grows with the number of identities.
        sampled_identities: Identities that a step compares with, for data of very many; 0 for all.
            Only losses with a vector per identity have it.
        images_per_identity: Images of an identity in a batch; 0 deals all images at random.
            ``None`` is 4 for triplet and contrastive losses, else 0.
        augment: ``"none"``, ``"light"`` (slight moves and changes of light) or ``"strong"``.
        flip: Whether augmentation mirrors images.
        mirror: Whether an image and its mirror image are both looked at, in evaluation, prediction
            and the exported file; their embeddings are added.
        align: Align images whose landmarks the data bring.
        threshold: Cosine similarity from which two images count as one identity; chosen on the
            validation pairs when training ends if ``None``.
        identities: Identities in training, which ``bind`` counts.
        aligned: Whether the training images were aligned by landmarks, which ``bind`` notes.
    """

    name: ClassVar[str] = "face_embedding"
    headline: ClassVar[str] = "verification_accuracy"
    resize: ClassVar[Literal["crop", "stretch"] | None] = "stretch"
    input_size: ClassVar[tuple[int, int] | None] = (112, 112)

    dimension: int = 512
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
    identities: int = 0
    aligned: bool = False

    @property
    def loss_over_pairs(self) -> bool:  # type: ignore[override]
        return self.loss in OVER_PAIRS

    def __post_init__(self) -> None:
        for name, known in (
            ("neck", ("batch_norm", "none")),
            ("loss", LOSS_NAMES),
            ("augment", AUGMENTATIONS),
        ):
            if getattr(self, name) not in known:
                hint = near_matches(str(getattr(self, name)), known)
                raise OptionError(f"{name}={getattr(self, name)!r} is unknown{hint}")
        for name in ("flip", "mirror", "align", "aligned"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name}={getattr(self, name)!r} is neither true nor false")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, least in (("dimension", 2), ("sampled_identities", 0), ("identities", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OptionError(f"{name}={value!r} is no whole number of {least} or more")
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise OptionError(f"dropout={self.dropout!r} is not in [0, 1)")
        for name in ("margin", "scale"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value > 0):
                raise OptionError(f"{name}={value!r} is no number above 0")
        if (
            self.loss == "sphereface"
            and self.margin is not None
            and self.margin != int(self.margin)
        ):
            raise OptionError(f"margin={self.margin!r}: SphereFace's is a whole number")
        if self.sampled_identities and self.loss in OVER_PAIRS:
            raise OptionError(
                f"sampled_identities={self.sampled_identities} goes with a loss that has a vector "
                f"per identity, and {self.loss} has none"
            )
        images = self.images_per_identity
        if images is not None and (not isinstance(images, int) or images < 0):
            raise OptionError(f"images_per_identity={images!r} is no whole number")
        if images is not None and images < 2 and self.loss in OVER_PAIRS:
            raise OptionError(
                f"images_per_identity={images} leaves loss {self.loss!r} no pair of one "
                "identity; 2 or more do"
            )
        if self.threshold is not None and not (
            _is_number(self.threshold) and -1 <= self.threshold <= 1
        ):
            raise OptionError(f"threshold={self.threshold!r} is no cosine in -1..1")

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, align=self.align, validation=validation, seed=seed)

    def read_evaluation(self, data: Any) -> Samples:
        return read_evaluation(data, self.align)

    def bind(self, train: Samples) -> FaceEmbedding:
        """Count the identities; their names are not kept.

        Args:
            train: Training samples that ``read`` found.

        Returns:
            The task to train.

        Raises:
            DataError: The samples are others, or show one identity only.
        """
        if not isinstance(train, FaceSamples) or not train.identities:
            raise DataError(f"bind takes samples that read() found, not {type(train).__name__}")
        check_trainable(train)
        return replace(self, identities=train.identities, aligned=train.aligned)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def collate(self, targets: list[Face]) -> dict[str, Any]:
        """Make one batch of targets.

        Args:
            targets: One per image.

        Returns:
            ``labels``, int64 (N,), for the loss; for the metrics lists of N: ``identities``,
            ``numbers`` and ``pairs``.
        """
        return {
            "labels": torch.tensor([face.label for face in targets], dtype=torch.int64),
            "identities": [face.identity for face in targets],
            "numbers": [face.number for face in targets],
            "pairs": [face.pairs for face in targets],
        }

    def batch_sampler(
        self, samples: Samples, batch_size: int, processes: int, *, seed: int, epoch: int
    ) -> list[list[list[int]]] | None:
        images = self.images_per_identity
        if images is None:
            images = PER_IDENTITY if self.loss in OVER_PAIRS else 0
        if not images:
            return None
        labels = [samples.target(i).label for i in range(len(samples))]
        return balanced_batches(labels, batch_size, images, processes, seed=seed, epoch=epoch)

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        return EmbeddingHead(
            backbone.info.embedding_dim, self.dimension, self.dropout, self.neck == "batch_norm"
        )

    def build_loss(self) -> nn.Module:
        # The library takes seconds to import, and prediction needs none of it.
        from visiongraft.plugins.face_embedding.loss import (
            LOSSES,
            ClassWeightLoss,
            PairLoss,
            usual_scale,
        )

        kind = LOSSES[self.loss]
        margin = kind.margin if self.margin is None else self.margin
        scale = self.scale or kind.scale or usual_scale(self.identities)
        if kind.over_pairs:
            return PairLoss(self.loss, margin, scale)
        if not self.identities:
            raise OptionError("the task knows no identities yet; read() and bind() count them")
        return ClassWeightLoss(
            self.loss, self.identities, self.dimension, margin, scale, self.sampled_identities
        )

    def inference_step(self, network: Network | InferenceGraph, images: Tensor) -> Tensor:
        """Compute embeddings, of the mirror images too if the option ``mirror`` says so."""
        embeddings: Tensor = network.head(network.backbone(images))
        if not self.mirror:
            return embeddings
        mirrored: Tensor = network.head(network.backbone(images.flip(3)))
        return _unit(embeddings) + _unit(mirrored)

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        """Make unit vectors.

        Args:
            outputs: (N, D), of any length.
            sizes: Not used.

        Returns:
            ``embedding``, float32 (N, D).
        """
        return {"embedding": _unit(outputs)}

    def build_metrics(self) -> FaceMetrics:
        from visiongraft.plugins.face_embedding.evaluation.metrics import FaceMetrics

        return FaceMetrics()

    def predictions(self, decoded: Arrays) -> list[Embedded]:
        return predictions(decoded, self.metadata())

    def after_training(self, results: Mapping[str, Any]) -> FaceEmbedding:
        """Take the threshold over that decided the validation pairs best."""
        if self.threshold is not None or results.get("threshold") is None:
            return self
        return replace(self, threshold=float(results["threshold"]))

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        return {"embed": embed, "verify": verify, "gallery": Gallery}

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
    """Divide vectors by their lengths, in float32; one of length 0 stays as it is."""
    return F.normalize(vectors.to(torch.float32), dim=1)


def _vector_of(name: str, dimension: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Give each name a unit vector of its own."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
