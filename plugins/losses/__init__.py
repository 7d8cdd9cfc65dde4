"""Built-in transfer losses, registered like those of third parties."""

from __future__ import annotations

from visiongraft.hookspecs import hookimpl
from visiongraft.plugins.losses.adabn import AdaBN
from visiongraft.plugins.losses.bi_tuning import BiTuning
from visiongraft.plugins.losses.bss import BSS
from visiongraft.plugins.losses.cdan import CDAN
from visiongraft.plugins.losses.co_tuning import CoTuning
from visiongraft.plugins.losses.coral import DeepCoral
from visiongraft.plugins.losses.dann import DANN
from visiongraft.plugins.losses.delta import Delta
from visiongraft.plugins.losses.distillation import Distillation
from visiongraft.plugins.losses.l2_sp import L2SP
from visiongraft.plugins.losses.lwf import LwF
from visiongraft.plugins.losses.mcc import MCC
from visiongraft.training.transfer_losses import TransferLoss


@hookimpl
def register_losses() -> list[type[TransferLoss]]:
    """Return the built-in transfer losses."""
    return [
        L2SP,
        Delta,
        BSS,
        LwF,
        CoTuning,
        BiTuning,
        Distillation,
        DANN,
        CDAN,
        MCC,
        DeepCoral,
        AdaBN,
    ]
