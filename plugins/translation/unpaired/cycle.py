"""The loss of CycleGAN: a second generator, which leads back, two critics and two pools."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone
from visiongraft.plugins.adversarial.losses import ADVERSARIAL_LOSSES
from visiongraft.plugins.translation.critic import PatchCritic
from visiongraft.plugins.translation.unpaired.pool import ImagePool

Generator = Callable[[Tensor], Tensor]  # images to images, float (N, 3, height, width) in 0..1


class Inverse(nn.Module):
    """A network that makes inputs of targets. It is part of training alone.

    Args:
        backbone: Its encoder, copied: it begins with the same weights.
        head: Its decoder.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = deepcopy(backbone), head


class CycleLoss(nn.Module):
    """What two generators that lead to each other's inputs learn from (Zhu et al., 2017).

    Args:
        inverse: The second generator.
        size: Height and width of the network's input.
        kind: A name in ``ADVERSARIAL_LOSSES``.
        cycle_weight: Weight of the distance of an image from what both generators, one after the other,
            make of it, beside what critics say.
        identity_weight: Weight of the change that a generator makes to images which are what it should
            make; 0 for none.
    """

    def __init__(
        self,
        inverse: Inverse,
        size: tuple[int, int],
        kind: str,
        cycle_weight: float,
        identity_weight: float,
    ) -> None:
        super().__init__()
        self.inverse, self.kind = inverse, kind
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.critics = nn.ModuleDict({"inputs": PatchCritic(1), "targets": PatchCritic(1)})
        self.pools = nn.ModuleDict({"inputs": ImagePool(size), "targets": ImagePool(size)})

    def forward(
        self, forth: Generator, back: Generator, inputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Compute the loss of both generators.

        Args:
            forth: Makes images like targets of inputs.
            back: Makes images like inputs of targets.
            inputs: float (N, 3, height, width) in 0..1.
            targets: Likewise; they belong to no input in particular.

        Returns:
            ``adversarial``, ``cycle`` and, if it has a weight, ``identity`` of the first generator, and
            those of the second with the ending ``_inverse``.
        """
        return {
            **self._half(forth, back, inputs, targets, "targets", ""),
            **self._half(back, forth, targets, inputs, "inputs", "_inverse"),
        }

    def _half(
        self,
        forth: Generator,
        back: Generator,
        inputs: Tensor,
        targets: Tensor,
        kind: str,
        ending: str,
    ) -> dict[str, Tensor]:
        made = forth(inputs)
        scores = self.critics[kind](made)
        parts = {
            "adversarial": ADVERSARIAL_LOSSES[self.kind].generator(scores),
            "cycle": self.cycle_weight * (back(made) - inputs).abs().mean(),
        }
        if self.identity_weight:
            parts["identity"] = self.identity_weight * (forth(targets) - targets).abs().mean()
        return {f"{name}{ending}": value for name, value in parts.items()}

    def judged(
        self, forth: Generator, back: Generator, inputs: Tensor, targets: Tensor
    ) -> dict[str, Tensor]:
        """Compute the loss of both critics, halved as in the paper, which slows them down.

        Args:
            forth: See ``forward``.
            back: See ``forward``.
            inputs: See ``forward``.
            targets: See ``forward``.

        Returns:
            ``real`` and ``fake`` of the critic of targets, and of that of inputs with ``_inverse``.
        """
        with torch.no_grad():
            made = {"targets": forth(inputs), "inputs": back(targets)}
        loss, parts = ADVERSARIAL_LOSSES[self.kind], {}
        for kind, real, ending in (("targets", targets, ""), ("inputs", inputs, "_inverse")):
            critic = self.critics[kind]
            parts[f"real{ending}"] = 0.5 * loss.real(critic(real))
            parts[f"fake{ending}"] = 0.5 * loss.fake(critic(self.pools[kind](made[kind])))
        return parts
