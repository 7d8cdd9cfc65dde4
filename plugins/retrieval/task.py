"""Images and captions in one space, as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from visiongraft.advice.ridge import fit_ridge
from visiongraft.backbone import Backbone, Features
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.options import check_choice, check_flag, check_integer, is_number
from visiongraft.plugins.retrieval.captions import (
    CaptionedSamples,
    Captions,
    encoder_named,
    is_captioned,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.retrieval.example import write_table
from visiongraft.plugins.retrieval.head import ContrastiveLoss, RetrievalHead
from visiongraft.plugins.retrieval.metrics import RetrievalMetrics
from visiongraft.plugins.retrieval.search import search
from visiongraft.plugins.whole_images.embedded import Embedded, predictions
from visiongraft.plugins.whole_images.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, Task, TaskExamples, Transform
from visiongraft.text_encoders import unit_vectors

HEAD_STARTS = ("closed_form", "identity", "random")


@dataclass(frozen=True)
class Retrieval(Task):
    """Embed images among the vectors of captions, to find images by words and captions by images.

    The text encoder stays as it is; backbone and head learn by contrast.

    Attributes:
        text: The text encoder, see ``load_text_encoder``.
        head_start: ``"closed_form"`` starts a linear layer on a pretrained backbone by ridge regression
            to the captions; ``"identity"`` where the backbone was trained together with the text encoder;
            ``"random"`` from random weights.
        temperature: Of the loss to start with; it is trained.
        augment: ``"none"``, ``"light"`` or ``"strong"``, as in classification.
        flip: Whether augmentation flips images horizontally, which can contradict captions.
        dimension: Length of the vectors, set by ``bind``.
    """

    name: ClassVar[str] = "retrieval"
    headline: ClassVar[str] = "mean_recall"
    loss_over_pairs: ClassVar[bool] = True
    metrics_over_pairs: ClassVar[bool] = True
    whole_image_targets: ClassVar[bool] = True
    splits_alike: ClassVar[bool] = True

    text: str = "wordllama"
    head_start: Literal["closed_form", "identity", "random"] = "closed_form"
    temperature: float = 0.07
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = False
    dimension: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise OptionError(f"text={self.text!r} is not the name of a text encoder")
        check_choice("head_start", self.head_start, HEAD_STARTS)
        if not is_number(self.temperature) or self.temperature <= 0:
            raise OptionError(f"temperature={self.temperature!r} is not a number above 0")
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_flag("flip", self.flip)
        check_integer("dimension", self.dimension, least=0)

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, self.text, validation, seed)

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        return read_evaluation(data, self.text)

    def claims(self, data: Any) -> bool:
        return is_captioned(data)

    def bind(self, train: Samples) -> Retrieval:
        if not isinstance(train, CaptionedSamples):
            raise DataError(f"bind takes samples returned by read(), not {type(train).__name__}")
        return replace(self, dimension=train.dim)

    def train_transform(self, preprocess: PreprocessConfig) -> Transform | None:
        if self.augment == "none":
            return None
        return TrainTransform(preprocess.size, self.augment, self.flip)

    def collate(self, targets: list[Captions]) -> dict[str, Tensor]:
        """Collate captions.

        Args:
            targets: The captions of each image.

        Returns:
            Of all M captions: ``vectors`` float32 (M, dim), ``ids`` int64 (M,), equal for equal captions,
            and ``image`` int64 (M,), the position of their image in the batch.
        """
        counts = torch.tensor([len(each.ids) for each in targets], dtype=torch.int64)
        vectors = [each.vectors for each in targets] or [np.zeros((0, self.dimension), np.float32)]
        ids = [each.ids for each in targets] or [np.zeros(0, np.int64)]
        return {
            "vectors": torch.from_numpy(np.concatenate(vectors)),
            "ids": torch.from_numpy(np.concatenate(ids)),
            "image": torch.arange(len(targets)).repeat_interleave(counts),
        }

    # ---- model ----

    def build_head(self, backbone: Backbone) -> nn.Module:
        if not self.dimension:
            raise OptionError("the task has no captions yet; call read() and bind() first")
        inputs = backbone.info.embedding_dim
        identity = self.head_start == "identity"
        if identity and inputs != self.dimension:
            raise OptionError(
                f"head_start='identity': embeddings of {backbone.info.name} have {inputs} numbers, and vectors "
                f"of {self.text!r} have {self.dimension}; use head_start='closed_form'"
            )
        return RetrievalHead(inputs, self.dimension, identity)

    @property
    def starts_head(self) -> bool:
        """Whether the head is to start by ridge regression."""
        return self.head_start == "closed_form"

    def start_head(self, head: nn.Module, samples: Iterable[tuple[Features, Any]]) -> None:
        """Start from ridge regression to the mean vector of each image's captions."""
        embeddings, vectors = [], []
        for features, targets in samples:
            embeddings.append(features.pooled.cpu().numpy())
            vectors.append(mean_vectors(targets, len(features.pooled)).numpy())
        fit = fit_ridge(np.concatenate(embeddings), np.concatenate(vectors))
        assert isinstance(head, RetrievalHead)
        head.project.weight.copy_(torch.from_numpy(fit.weight))
        head.project.bias.copy_(torch.from_numpy(fit.bias))

    def build_loss(self) -> nn.Module:
        return ContrastiveLoss(self.temperature)

    # ---- results ----

    def decode(self, outputs: Tensor, sizes: Tensor) -> Decoded:
        """Scale vectors to length 1.

        Args:
            outputs: (N, dim).
            sizes: Not used.

        Returns:
            ``embedding``, float32 (N, dim); the inner product with a text's unit vector is their cosine.
        """
        return {"embedding": normalize(outputs.to(torch.float32), dim=1)}

    def build_metrics(self) -> RetrievalMetrics:
        return RetrievalMetrics()

    def predictions(self, decoded: Arrays) -> list[Embedded]:
        return predictions(decoded, self.metadata())

    def model_methods(self) -> Mapping[str, Callable[..., Any]]:
        return {"search": search}

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts by the encoder that the model was trained with, as unit vectors."""
        return unit_vectors(encoder_named(self.text), texts).astype(np.float32)

    def metadata(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "similarity": "cosine", "text": self.text}

    def examples(self) -> TaskExamples:
        return TaskExamples(write_table, self._ideal)

    def _ideal(self, targets: dict[str, Tensor]) -> Arrays:
        count = int(targets["image"].max()) + 1 if len(targets["image"]) else 0
        return {"embedding": mean_vectors(targets, count).numpy()}


def mean_vectors(targets: Mapping[str, Tensor], count: int) -> Tensor:
    """Return the mean vector of each image's captions, of length 1, float32 (count, dim)."""
    vectors = targets["vectors"].cpu()
    sums = torch.zeros(count, vectors.shape[1]).index_add_(0, targets["image"].cpu(), vectors)
    return normalize(sums, dim=1)
