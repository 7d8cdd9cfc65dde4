"""Distillation: outputs and embeddings of any other model as further targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiongraft.backbone import Backbone, Features, licenses
from visiongraft.errors import OptionError
from visiongraft.model import load
from visiongraft.plugins.losses.checks import check_positive, check_strength
from visiongraft.plugins.losses.divergence import output_divergence
from visiongraft.saving.saved_model import WEIGHTS, is_saved_model, model_folder
from visiongraft.training.resuming.inputs import changed_options
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

EMBEDDINGS_ONLY = "with outputs=0 and features=1 only the embeddings are distilled"


class Distillation(TransferLoss):
    """Distillation of a saved model's outputs (Hinton et al., 2015) and embeddings (Romero et al., 2015).

    ``outputs * T^2 * KL(softmax(t / T) || softmax(s / T))``, averaged over images and positions, for
    the class scores (N, C, ...) of teacher ``t`` and network ``s``; and
    ``features * mean((r(h) - h_t)^2) / (2 * mean(h_t^2))``, for the embeddings (N, D) of the network
    ``h`` and of the teacher ``h_t``, with a trained linear layer ``r``. Both are means, and the
    second is relative to the teacher's embeddings on the training set, so that neither depends on
    the sizes of batch and models.

    The teacher sees the same view of each image, normalized and resized for it. TLlib's definition
    has no factor ``T^2``.

    Args:
        backbone: The backbone that will train.
        source: Not used.
        teacher: Folder of a saved model, or of a run; its classes must be those of this run if its
            outputs are used.
        outputs: Weight of the outputs.
        features: Weight of the embeddings.
        temperature: T.
    """

    name: ClassVar[str] = "distillation"
    reads_features: ClassVar[bool] = True
    reads_outputs: ClassVar[bool] = True
    scale: Tensor
    ours_mean: Tensor
    ours_std: Tensor
    theirs_mean: Tensor
    theirs_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        source: Backbone,
        *,
        teacher: str,
        outputs: float = 1.0,
        features: float = 0.0,
        temperature: float = 2.0,
    ) -> None:
        super().__init__(backbone, source)
        if not isinstance(teacher, (str, Path)) or not is_saved_model(teacher):
            raise OptionError(
                f"teacher={teacher!r} of distillation is not the folder of a saved model or of a run"
            )
        check_strength(self.name, outputs=outputs, features=features)
        check_positive(self.name, temperature=temperature)
        self.outputs, self.features, self.temperature = outputs, features, temperature
        self.folder = model_folder(Path(teacher))
        network = load(teacher).network
        self.teacher_licenses = licenses(network.backbone.info.provenance)
        self.teacher_task = network.task
        self.teacher = (self.hold(network.backbone), self.hold(network.head))
        theirs = network.backbone.info
        if theirs.in_channels != backbone.info.in_channels:
            raise OptionError(
                f"teacher={str(teacher)!r} of distillation takes images of {theirs.in_channels} "
                f"channels, and the network {backbone.info.in_channels}"
            )
        self.size = theirs.preprocess.size
        for name, config in (("ours", backbone.info.preprocess), ("theirs", theirs.preprocess)):
            for part, values in (("mean", config.mean), ("std", config.std)):
                tensor = torch.tensor(values).view(1, -1, 1, 1)
                self.register_buffer(f"{name}_{part}", tensor, persistent=False)
        self.register_buffer("scale", torch.ones(()))
        self.regressor = (
            nn.Linear(backbone.info.embedding_dim, theirs.embedding_dim) if features else None
        )

    def licenses(self) -> Mapping[str, str]:
        """Return the licenses of the teacher."""
        return self.teacher_licenses

    def files(self) -> Mapping[str, Path]:
        return {"teacher": self.folder / WEIGHTS}

    def prepare(self, steps: Iterable[TransferStep]) -> None:
        """Compare class names, and measure the teacher's embeddings."""
        total, count = 0.0, 0
        for step in steps:
            if not count and self.outputs:
                self._check_classes(step)
            if not self.features:
                return
            pooled = self._teach(step).pooled
            total += float(pooled.double().square().mean(1).sum())
            count += len(pooled)
        self.scale.fill_(total / count or 1.0)

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        """Return the parts ``outputs`` and ``features``, as far as they have a weight."""
        features = self._teach(step)
        parts: dict[str, Tensor] = {}
        if self.outputs:
            with torch.no_grad():
                wanted = self.teacher[1](features)
            divergence = output_divergence(
                step.outputs, wanted, self.temperature, "distillation: the teacher", EMBEDDINGS_ONLY
            )
            parts["outputs"] = self.outputs * divergence
        if self.regressor is not None:
            moved = self.regressor(step.features.pooled).float() - features.pooled.float()
            parts["features"] = self.features * moved.square().mean() / (2 * self.scale)
        return parts

    @torch.no_grad()
    def _teach(self, step: TransferStep) -> Features:
        """Return what the teacher's backbone makes of the images."""
        images = step.images * self.ours_std + self.ours_mean
        if images.shape[2:] != torch.Size(self.size):
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        features: Features = self.teacher[0]((images - self.theirs_mean) / self.theirs_std)
        return features

    def _check_classes(self, step: TransferStep) -> None:
        theirs, ours = (
            task.metadata().get("class_names") for task in (self.teacher_task, step.task)
        )
        if theirs and ours:
            before, after = ({"class_names": list(names)} for names in (ours, theirs))
            for change in changed_options(before, after):
                raise OptionError(
                    f"the teacher {self.folder} has other classes: {change}; {EMBEDDINGS_ONLY}"
                )
