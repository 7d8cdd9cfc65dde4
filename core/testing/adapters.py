"""Checks of adapters: applied and merged they change no output, and what they do not train is frozen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from visiongraft.adaptation.backbones import apply_adapter, merge_adapters
from visiongraft.backbone import Backbone
from visiongraft.errors import OptionError, PluginError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.lookup.methods import find_adapter
from visiongraft.seeds import seeded
from visiongraft.testing.report import Check, Checks, NotTried, expect, require, trying
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.freezing import expect_frozen
from visiongraft.testing.tasks.reproducing import equal_runs_are_equal
from visiongraft.testing.tasks.resuming import a_killed_run_resumes_exactly
from visiongraft.testing.tasks.trial import BACKBONE, NORMALIZED, SIZE, TaskTrial

BACKBONES = (NORMALIZED, "timm/test_vit", BACKBONE)


class AdapterTrial(TaskTrial):
    """An adapter under trial, on the first small backbone that it fits.

    Args:
        name: Name of the adapter, with options if it needs any.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        fitting = [backbone for backbone in BACKBONES if _fits(name, backbone)]
        chosen = fitting[0] if fitting else BACKBONE
        super().__init__(Specimen(), backbone=chosen, normalized=chosen, adapters=[name])
        self.fits = bool(fitting)

    def adapted(self, seed: int = 0) -> tuple[Backbone, frozenset[str], Tensor]:
        """Return an adapted backbone, what the adapter trains, and the outputs before."""
        if not self.fits:
            raise NotTried(f"it fits none of the backbones {', '.join(BACKBONES)}")
        with seeded(seed, "adapter"):
            backbone = load_backbone(self.backbone, None, size=SIZE).eval()
            shift(backbone, [name for name, _ in backbone.named_parameters()])  # no bias stays 0
            before = outputs(backbone)
            with trying("to apply the adapter", see="adapters.Adapter.apply"):
                trains, _ = apply_adapter(backbone, find_adapter(self.name))
        return backbone.eval(), trains, before


check = Checks(AdapterTrial.of)


@check("adapters.Adapter.apply")
def applying_it_changes_no_output(trial: AdapterTrial) -> None:
    """A backbone computes the same with the adapter as it is applied as without it."""
    backbone, _, before = trial.adapted()
    words = f"to apply the adapter to {trial.backbone}"
    expect_near(outputs(backbone), before, words)


@check("adapters.Adapter.apply")
def applying_it_again_adds_the_same(trial: AdapterTrial) -> None:
    """Equal backbones get parameters of the same names and shapes, as loading requires."""
    one, other = (
        {name: tuple(tensor.shape) for name, tensor in trial.adapted(seed)[0].state_dict().items()}
        for seed in range(2)
    )
    odd = sorted(name for name, _ in one.items() ^ other.items())
    words = "to apply the adapter to two equal backbones"
    expect(not odd, words, f"tensors {', '.join(odd[:3])} in one of them only", "equal tensors")


@check("adapters.LayerAdapter.fold")
def merging_it_changes_no_output(trial: AdapterTrial) -> None:
    """Merging a changed adapter changes no output, and merging it again changes nothing."""
    backbone, trains, before = trial.adapted()
    with seeded(0, "shift"):
        shift(backbone, sorted(trains))
    changed = outputs(backbone)
    words = "to change what the adapter trains"
    moved = not trains or not torch.allclose(changed, before)
    expect(moved, words, "the same outputs", "other outputs: it must act on the backbone")
    for words in ("to merge the adapter", "to merge the adapter again"):
        with trying(words, see="adapters.LayerAdapter.fold"):
            merge_adapters(backbone)
        expect_near(outputs(backbone), changed, words)


@check("training.freezing.Receipt")
def what_it_does_not_train_is_frozen(trial: AdapterTrial) -> None:
    """Training leaves everything else bit-identical, batch norm statistics included."""
    if not trial.fits:
        raise NotTried(f"it fits none of the backbones {', '.join(BACKBONES)}")
    expect_frozen(trial, "full(batch_norm='train')")


def shift(backbone: Backbone, names: Iterable[str]) -> None:
    """Change parameters at random, as training would."""
    with torch.no_grad():
        for name in names:
            parameter = backbone.get_parameter(name)
            parameter.add_(0.1 * torch.randn_like(parameter))


def outputs(backbone: Backbone) -> Tensor:
    """Return the embeddings of two seeded images."""
    with seeded(0, "images"), torch.no_grad():
        images = torch.randn(2, backbone.info.in_channels, *backbone.info.preprocess.size)
        embeddings: Tensor = backbone(images).pooled
    return embeddings


def expect_near(got: Tensor, expected: Tensor, words: str) -> None:
    """Raise a fault unless outputs differ by rounding only."""
    difference = float((got - expected).abs().max())
    near = difference <= 1e-4 * max(1.0, float(expected.abs().max()))
    expect(near, words, f"outputs that differ by {difference:.2g}", "equal outputs")


def _fits(name: str, backbone: str) -> bool:
    try:
        apply_adapter(load_backbone(backbone, None, size=SIZE), find_adapter(name))
    except OptionError:
        return False
    except PluginError:  # an adapter that fails; its checks tell how
        return True
    return True


ADAPTER_CHECKS: tuple[Check[Any], ...] = (
    *check,
    equal_runs_are_equal,
    a_killed_run_resumes_exactly,
)


def check_adapter(what: str) -> None:
    """Check everything that visiongraft requires of an adapter.

    Args:
        what: Name of an installed adapter, with or without options.

    Raises:
        CheckError: A check failed.
    """
    require(AdapterTrial.of(what), ADAPTER_CHECKS)
