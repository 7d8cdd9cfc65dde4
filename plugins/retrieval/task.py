"""Images and captions in one space, as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from visiongraft.advice.ridge import fit_ridge
from visiongraft.backbone import Backbone, Features
from visiongraft.data.batch import Batch
from visiongraft.data.samples import EvaluationSplit, Samples, Splits
from visiongraft.errors import DataError, OptionError
from visiongraft.loss_parts import LossParts
from visiongraft.network import Network
from visiongraft.options import check_choice, check_flag, check_integer, is_number
from visiongraft.plugins.retrieval.captions import (
    CaptionedSamples,
    Captions,
    is_captioned,
    read_evaluation,
    read_splits,
)
from visiongraft.plugins.retrieval.encoders import (
    Mark,
    encoder_named,
    known_encoder,
    known_network,
    mark_of,
    trainable_network,
)
from visiongraft.plugins.retrieval.example import write_table
from visiongraft.plugins.retrieval.head import ContrastiveLoss, RetrievalHead
from visiongraft.plugins.retrieval.metrics import RetrievalMetrics
from visiongraft.plugins.retrieval.search import search
from visiongraft.plugins.whole_images.embedded import Embedded, predictions
from visiongraft.plugins.whole_images.transforms import AUGMENTATIONS, TrainTransform
from visiongraft.preprocess import PreprocessConfig
from visiongraft.task import Arrays, Decoded, HeadFit, Task, TaskExamples, Transform
from visiongraft.text_encoders import unit_vectors

TEXTS_AT_ONCE = 64  # per forward pass
HEAD_STARTS = ("closed_form", "identity", "random")


@dataclass(frozen=True)
class Retrieval(Task):
    """Embed images among the vectors of captions, to find images by words and captions by images.

    Backbone and head learn by contrast, and the text encoder with them if ``train_text`` is set.

    Attributes:
        text: The text encoder, see ``load_text_encoder``.
        train_text: Whether the text encoder is trained, too; its network is then a part of the head.
        text_rate: Factor on the learning rate of the text encoder.
        head_start: ``"closed_form"`` starts a linear layer on a pretrained backbone by ridge regression
            to the captions; ``"identity"`` where the backbone was trained together with the text encoder;
            ``"random"`` from random weights.
        temperature: Of the loss to start with; it is trained.
        augment: ``"none"``, ``"light"`` or ``"strong"``, as in classification.
        flip: Whether augmentation flips images horizontally, which can contradict captions.
        dimension: Length of the vectors, set by ``bind``.
        text_mark: What tells the text encoder from others, set by ``bind``.
        trained_text: Name of the text encoder that was trained, set after training.
    """

    name: ClassVar[str] = "retrieval"
    headline: ClassVar[str] = "mean_recall"
    loss_over_pairs: ClassVar[bool] = True
    metrics_over_pairs: ClassVar[bool] = True
    whole_image_targets: ClassVar[bool] = True
    splits_alike: ClassVar[bool] = True

    text: str = "wordllama"
    train_text: bool = False
    text_rate: float = 0.1
    head_start: Literal["closed_form", "identity", "random"] = "closed_form"
    temperature: float = 0.07
    augment: Literal["none", "light", "strong"] = "light"
    flip: bool = False
    dimension: int = 0
    text_mark: Mark = ()
    trained_text: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise OptionError(f"text={self.text!r} is not the name of a text encoder")
        check_choice("head_start", self.head_start, HEAD_STARTS)
        check_flag("train_text", self.train_text)
        for name in ("text_rate", "temperature"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise OptionError(f"{name}={value!r} is not a number above 0")
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_flag("flip", self.flip)
        check_integer("dimension", self.dimension, least=0)

    # ---- data ----

    def read(self, data: Any, *, validation: float = 0.2, seed: int = 0) -> Splits:
        return read_splits(data, self.text, validation, seed, self.train_text)

    def read_evaluation(self, data: Any) -> EvaluationSplit:
        trained = self.dimension if self.train_text else 0
        return read_evaluation(data, self.text, self.text_mark, trained)

    def claims(self, data: Any) -> bool:
        return is_captioned(data)

    def bind(self, train: Samples) -> Retrieval:
        if not isinstance(train, CaptionedSamples):
            raise DataError(f"bind takes samples returned by read(), not {type(train).__name__}")
        text = trainable_network(self.text) if self.train_text else encoder_named(self.text)
        return replace(self, dimension=train.dim, text_mark=mark_of(text))

    def with_text_encoder(self, name: str) -> Retrieval:
        return replace(self, text=name, trained_text=name if self.trained_text else "")

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
            and ``image`` int64 (M,), the position of their image in the batch; with ``train_text`` also
            ``tokens`` int64 (M, length).
        """
        counts = torch.tensor([len(each.ids) for each in targets], dtype=torch.int64)
        vectors = [each.vectors for each in targets] or [np.zeros((0, self.dimension), np.float32)]
        ids = [each.ids for each in targets] or [np.zeros(0, np.int64)]
        found = {
            "vectors": torch.from_numpy(np.concatenate(vectors)),
            "ids": torch.from_numpy(np.concatenate(ids)),
            "image": torch.arange(len(targets)).repeat_interleave(counts),
        }
        tokens = [each.tokens for each in targets if each.tokens is not None]
        if tokens:
            found["tokens"] = torch.from_numpy(np.concatenate(tokens)).long()
        return found

    # ---- model ----

    def provenance(self) -> dict[str, str]:
        known = encoder_named(self.text).info.provenance
        if self.train_text:
            return {f"head.text: {key}": value for key, value in known.items()}
        return {"text teacher: license": known["license"]} if "license" in known else {}

    def after_training(self, results: Mapping[str, Any]) -> Retrieval:
        return replace(self, trained_text=self.text) if self.train_text else self

    def learning_rates(self) -> dict[str, float]:
        return {"head.text": self.text_rate} if self.train_text else {}

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
        text = None
        if (
            self.train_text and self.trained_text == self.text
        ):  # its weights are in the model's file
            text = known_network(self.text, self.text_mark)
        elif self.train_text:
            text = trainable_network(self.text)
        return RetrievalHead(inputs, self.dimension, identity, text)

    @property
    def starts_head(self) -> bool:
        """Whether the head is to start by ridge regression."""
        return self.head_start == "closed_form"

    def start_head(
        self,
        head: nn.Module,
        samples: Iterable[tuple[Features, Any]],
        first: HeadFit | None = None,
    ) -> None:
        """Start from ridge regression to the mean vector of each image's captions."""
        assert isinstance(head, RetrievalHead)
        embeddings, vectors = [], []
        for features, targets in samples:
            known = self._with_vectors(head, targets)
            embeddings.append(features.pooled.cpu().numpy())
            vectors.append(mean_vectors(known, len(features.pooled)).numpy())
        fit = fit_ridge(np.concatenate(embeddings), np.concatenate(vectors))
        head.project.weight.copy_(torch.from_numpy(fit.weight))
        head.project.bias.copy_(torch.from_numpy(fit.bias))

    def build_loss(self) -> nn.Module:
        return ContrastiveLoss(self.temperature)

    def training_step(self, network: Network, batch: Batch) -> LossParts:
        """Compute the loss; with ``train_text``, of vectors that the trained text encoder computes now."""
        targets = self._with_vectors(head_of(network), batch.targets)
        return super().training_step(network, replace(batch, targets=targets))

    def _with_vectors(self, head: RetrievalHead, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the vectors of captions that the head computes if the text encoder is trained."""
        if not self.train_text:
            return targets
        return {**targets, "vectors": head.encode(targets["tokens"])}

    # ---- results ----

    def evaluation_step(self, network: Network, batch: Batch) -> dict[str, Tensor]:
        """Compute ``captions``, see ``RetrievalMetrics.update``, if the text encoder is trained."""
        if not self.train_text:
            return {}
        vectors, image = head_of(network).encode(batch.targets["tokens"]), batch.targets["image"]
        each = [vectors[image == row] for row in range(len(batch.sizes))]
        return {"captions": pad_sequence(each, batch_first=True, padding_value=float("nan"))}

    def proof_samples(self, network: Network, samples: Samples) -> Samples:
        """Return captions with the vectors that the trained text encoder computes for them."""
        if not self.train_text:
            return samples
        known: list[Captions] = [samples.target(i) for i in range(len(samples))]
        targets = []
        for start in range(0, len(known), TEXTS_AT_ONCE):
            part = known[start : start + TEXTS_AT_ONCE]
            vectors = self._encode(network, self.collate(part)["tokens"])
            ends = np.cumsum([len(own.ids) for own in part])[:-1]
            split = np.split(vectors, ends)
            targets += [replace(own, vectors=v) for own, v in zip(part, split, strict=True)]
        return CaptionedSamples(samples, tuple(targets))

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

    def embed_texts(  # type: ignore[override]
        self, texts: Sequence[str], network: Network
    ) -> NDArray[np.float32]:
        """Embed texts by the encoder that the model was trained with, as unit vectors."""
        if not self.train_text:
            encoder = known_encoder(self.text, self.text_mark)
            return unit_vectors(encoder, texts).astype(np.float32)
        return self._encode(network, head_of(network).tokenize(texts))

    def _encode(self, network: Network, tokens: Tensor) -> NDArray[np.float32]:
        """Compute unit vectors of tokenized texts by the trained text encoder."""
        device = next(network.parameters()).device
        with torch.no_grad():
            parts = [
                head_of(network).encode(part.to(device)) for part in tokens.split(TEXTS_AT_ONCE)
            ]
        found: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return found

    def metadata(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "similarity": "cosine", "text": self.text}

    def examples(self) -> TaskExamples:
        # Vectors of a tower may lie so that no vector is nearest to all captions of an image.
        return TaskExamples(write_table, None if self.train_text else self._ideal)

    def _ideal(self, targets: dict[str, Tensor]) -> Arrays:
        count = int(targets["image"].max()) + 1 if len(targets["image"]) else 0
        return {"embedding": mean_vectors(targets, count).numpy()}


def head_of(network: Network) -> RetrievalHead:
    """Return the head of a network."""
    return cast("RetrievalHead", network.head)


def mean_vectors(targets: Mapping[str, Tensor], count: int) -> Tensor:
    """Return the mean vector of each image's captions, of length 1, float32 (count, dim)."""
    vectors = targets["vectors"].cpu()
    sums = torch.zeros(count, vectors.shape[1]).index_add_(0, targets["image"].cpu(), vectors)
    return normalize(sums, dim=1)
