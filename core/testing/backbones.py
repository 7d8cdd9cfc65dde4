"""Checks of a backbone source, with the small backbone that it names as its example."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from visiongraft.backbone import Backbone, BackboneSource, Features, is_accepted
from visiongraft.errors import BackboneError, VisiongraftError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.backbones import find_source
from visiongraft.lookup.methods import find_schedule
from visiongraft.registry.manager import PluginManager, plugins, using
from visiongraft.seeds import seeded
from visiongraft.testing.equality import same
from visiongraft.testing.report import (
    Attempt,
    Check,
    Checks,
    Fault,
    NotTried,
    expect,
    require,
    trying,
)
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks.caching import replay_changes_nothing
from visiongraft.testing.tasks.export import the_exported_file_agrees
from visiongraft.testing.tasks.freezing import expect_frozen
from visiongraft.testing.tasks.learning import a_few_images_are_overfit as overfit_check
from visiongraft.testing.tasks.resuming import a_killed_run_resumes_exactly
from visiongraft.testing.tasks.saving import a_saved_model_predicts_the_same
from visiongraft.testing.tasks.trial import SIZE, TaskTrial
from visiongraft.testing.trials import Trial, is_text
from visiongraft.training.execution.recomputing import recomputing

TOLERANCE = 1e-4
Size = tuple[int, int]


class BackboneTrial(Trial):
    """A backbone source under trial, by one of its names.

    Args:
        what: A source, or the name of a backbone of an installed source.
    """

    def __init__(self, what: str | BackboneSource) -> None:
        super().__init__(what)
        self.manager = plugins()
        if isinstance(what, str):
            self.source, self.short = find_source(what)
            self.name = what
            return
        with trying("to get the name of the example", see="backbone.BackboneSource.example"):
            self.source, self.short = what, what.example()
        self.name = f"{what.prefix}/{self.short}" if what.prefix else self.short
        if plugins().backbone_sources().get(what.prefix) is not what:
            self.manager = PluginManager()
            self.manager.register(_Provider(what), "under-trial")

    def build(self, in_channels: int = 3, size: Size | None = None, seed: int = 0) -> Backbone:
        """Build the backbone with random weights."""
        with seeded(seed, "backbone"):
            return self.source.build(
                self.short, pretrained=False, in_channels=in_channels, size=size
            )

    @cached_property
    def size(self) -> Size:
        """The input size to check it with: small, if it supports that."""
        try:
            self.build(size=(SIZE, SIZE))
        except VisiongraftError:
            return self.build().info.preprocess.size
        return SIZE, SIZE

    @cached_property
    def large(self) -> Size:
        """A size at which feature maps of neighboring strides differ by more than rounding."""
        height, width = self.size
        if max(height, width) > 2 * SIZE:
            return self.size
        try:
            return self.build(size=(4 * height, 4 * width)).info.preprocess.size
        except VisiongraftError:
            return self.size

    @cached_property
    def specimen(self) -> TaskTrial:
        """A small correct task on this backbone."""
        return self._specimen("frozen")

    def update_statistics(self) -> bool:
        """Let batch norms collect statistics in the specimen, if there are any that it does not yet collect.

        Random weights have none: with those that such layers begin with, the signal can vanish in a deep network.
        """
        normalized = any(isinstance(m, _BatchNorm) for m in self.build(size=self.size).modules())
        if not normalized or self.specimen.batch_norm == "train":
            return False
        self.specimen = self._specimen("train")
        return True

    def _specimen(self, batch_norm: str) -> TaskTrial:
        return TaskTrial(
            Specimen(),
            backbone=self.name,
            normalized=self.name,
            size=self.size,
            batch_norm=batch_norm,
        )

    @contextmanager
    def found(self) -> Iterator[None]:
        """Let the engine find the source even if no installed plugin provides it."""
        with using(self.manager):
            yield


class _Provider:
    def __init__(self, source: BackboneSource) -> None:
        self.source = source

    @hookimpl
    def register_backbones(self) -> list[BackboneSource]:
        return [self.source]


check = Checks(BackboneTrial.of)


@check("backbone.BackboneSource.names")
def names_are_listed(trial: BackboneTrial) -> None:
    """The source lists each name once, and its example is one of them."""
    prefix, names = trial.source.prefix, list(trial.source.names())
    listing = Attempt("to list the source's names")
    expect("/" not in prefix and ":" not in prefix, "to read its prefix", repr(prefix), "a word")
    listing.expect(bool(names) and all(map(is_text, names)), names[:3], "strings")
    listing.expect(len(set(names)) == len(names), "a name twice", "each name once")
    accepted = is_accepted(trial.source, trial.short)
    listing.expect(accepted, f"no {trial.short!r}", "the example accepted")
    listing.expect(
        all(is_accepted(trial.source, n) for n in names[:3]),
        "names that are not accepted",
        "all accepted",
    )


@check("backbone.BackboneInfo")
def info_matches_the_network(trial: BackboneTrial) -> None:
    """Stages, channels, strides and embedding size in ``info`` match the network."""
    size = trial.large
    backbone = trial.build(size=size).eval()
    info, saved = backbone.info, backbone.state_dict().keys()
    known = {n for n, _ in (*backbone.named_parameters(), *backbone.named_buffers())}
    odd = sorted((saved - info.stage_of.keys()) | (info.stage_of.keys() - known))
    expect(not odd, "to find the stage of each tensor", f"a difference in {odd[:3]}", "one each")
    expect(len(backbone.stages) > 0, "to list the stages", "none", "at least one")
    made = info.preprocess.size
    expect(made == size, f"to build it at {size}", made, "preprocess.size as requested")
    features = _features(backbone, _images(size, 2))
    maps = [tuple(m.shape) for m in features.maps]
    height, width = size
    expected = [
        (2, c, ceil(height / s), ceil(width / s))
        for c, s in zip(info.channels, info.strides, strict=True)
    ]
    near = len(maps) == len(expected) and all(
        m[:2] == e[:2] and abs(m[2] - e[2]) <= 1 and abs(m[3] - e[3]) <= 1
        for m, e in zip(maps, expected, strict=True)
    )
    expect(near, "to compute feature maps of two images", maps, f"as in info: {expected}")
    ordered = list(info.strides) == sorted(info.strides)
    expect(ordered, "to read the strides", info.strides, "from fine to coarse")
    shape, expected_shape = tuple(features.pooled.shape), (2, info.embedding_dim)
    expect(shape == expected_shape, "to compute the embedding", shape, str(expected_shape))


@check("backbone.BackboneSource.build")
def equal_seeds_build_equal_networks(trial: BackboneTrial) -> None:
    """Equal seeds build equal networks, other seeds other networks."""
    one, again, other = (trial.build(size=trial.size, seed=s).state_dict() for s in (0, 0, 1))
    expected = "equal tensors: random weights must come from torch's generator"
    equal, differ = same(dict(one), dict(again)), not same(dict(one), dict(other))
    expect(equal, "to build it twice with one seed", "other tensors", expected)
    expect(differ, "to build it with another seed", "equal tensors", "other random weights")


@check("backbone.Backbone.forward")
def evaluation_changes_nothing(trial: BackboneTrial) -> None:
    """In evaluation mode, features are repeatable and independent of the batch, and no tensor changes."""
    backbone, images = trial.build(size=trial.size).eval(), _images(trial.size, 3)
    before = {n: t.clone() for n, t in backbone.state_dict().items()}
    kept = images.clone()
    first, second = _features(backbone, images), _features(backbone, images)
    changed = [n for n, t in backbone.state_dict().items() if not torch.equal(t, before[n])]
    got = f"other values in {changed[:2]}"
    expected = "unchanged tensors: batch norm statistics must not be updated"
    expect(not changed, "to run it in evaluation mode", got, expected)
    expect(torch.equal(images, kept), "to run it", "other images afterwards", "unchanged images")
    expect(_near(first, second, 0.0), "to run it twice", "other features", "the same")
    alone = _features(backbone, images[:1])
    part = Features(tuple(m[:1] for m in first.maps), first.pooled[:1])
    near = _near(part, alone, TOLERANCE)
    expect(near, "to run an image alone", "other features", "the same as in a batch")
    with trying("to run an empty batch", "features of length 0") as attempt:
        attempt.expect(len(_features(backbone, images[:0]).pooled) == 0, "features")


@check("backbone.BackboneSource.build")
def sizes_and_channels_are_supported_or_refused(trial: BackboneTrial) -> None:
    """Other sizes and numbers of channels are supported, or raise a BackboneError."""
    height, width = trial.size
    for size, channels in (
        ((height, width), 1),
        ((height, width), 4),
        ((height, 2 * width), 3),
        ((1, 1), 3),
    ):
        words = f"to build it for {channels} channels at {size[0]}x{size[1]}"
        try:
            backbone = trial.build(in_channels=channels, size=size).eval()
        except BackboneError:
            continue
        info, preprocess = backbone.info, backbone.info.preprocess
        made = (info.in_channels, len(preprocess.mean), preprocess.size)
        got = f"{info.in_channels} channels, mean {preprocess.mean}, {preprocess.size}"
        expect(made == (channels, channels, size), words, got, "info as requested")
        with trying(words + " and run it", "features, or a BackboneError when it is built"):
            _features(backbone, torch.zeros(1, channels, *size))


@check("backbone.Backbone.forward")
def gradients_reach_every_stage(trial: BackboneTrial) -> None:
    """In training, gradients reach every stage that has parameters."""
    backbone = trial.build(size=trial.size).train()
    features, words = backbone(_images(trial.size, 2)), "to compute the gradient of the features"
    with trying(words, "a gradient, without which the backbone cannot be fine-tuned"):
        _weighted_sum(features).backward()
    trained: dict[str, bool] = {}
    for name, parameter in backbone.named_parameters():
        stage = backbone.info.stage_of[name]
        reached = parameter.grad is not None and bool(parameter.grad.any())
        trained[stage] = trained.get(stage, False) or reached
    idle = [stage for stage, reached in trained.items() if not reached]
    expect(not idle, words, f"none in {', '.join(idle)}", "some in each stage with parameters")


@check("backbone.Backbone.checkpointed_modules")
def gradient_checkpointing_changes_nothing(trial: BackboneTrial) -> None:
    """If gradient checkpointing is supported, gradients and buffers are the same with and without."""

    def trained(on: bool) -> dict[str, Tensor]:
        backbone = trial.build(size=trial.size).train()
        modules = tuple(backbone.checkpointed_modules()) if on else ()
        with seeded(0, "step"):
            with recomputing(modules):
                features = backbone(_images(trial.size, 2))
            _weighted_sum(features).backward()
        gradients = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
        return {**gradients, **dict(backbone.named_buffers())}

    if not trial.build(size=trial.size).checkpointed_modules():
        return
    with trying("to recompute its activations in the backward pass", "the same gradients") as tried:
        plain, recomputed = trained(False), trained(True)
        other = [n for n, t in plain.items() if not torch.allclose(t, recomputed[n], 1e-4, 1e-5)]
        tried.expect(not other, f"other values in {other[:2]}")


@check("training.freezing.Receipt")
def frozen_stages_stay_frozen(trial: BackboneTrial) -> None:
    """Frozen stages stay bit-identical in a run: the whole backbone, and all but the last stage."""
    with trial.found():
        for schedule in ("linear_probe", "last_n(n=1)", "full"):
            if schedule.partition("(")[0] not in plugins().schedules():
                raise NotTried("the built-in schedules are not installed")
            expect_frozen(trial.specimen, find_schedule(schedule))


def _on_specimen(reused: Check[TaskTrial], see: str) -> None:
    """Add a check of tasks, to be run with a small correct task on the backbone."""

    def run(trial: BackboneTrial) -> None:
        with trial.found():
            reused.run(trial.specimen)

    run.__name__, run.__doc__ = reused.name, f"With a small correct task: {reused.says}"
    check(see)(run)


@check("backbone.Backbone.forward")
def a_few_images_are_overfit(trial: BackboneTrial) -> None:
    """A small correct task overfits a few images, with batch norms frozen or with batch norms that train."""
    with trial.found():
        try:
            overfit_check.run(trial.specimen)
        except Fault:
            if not trial.update_statistics():
                raise
            overfit_check.run(trial.specimen)


_on_specimen(a_killed_run_resumes_exactly, "backbone.Backbone")
_on_specimen(replay_changes_nothing, "backbone.Backbone.forward")
_on_specimen(a_saved_model_predicts_the_same, "backbone.BackboneSource.build")
_on_specimen(the_exported_file_agrees, "backbone.Backbone.forward")

BACKBONE_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_backbone(what: str | BackboneSource) -> None:
    """Check everything that visiongraft requires of a backbone source.

    Args:
        what: The source, checked with its ``example``, or the full name of a backbone.

    Raises:
        CheckError: A check failed.
    """
    require(BackboneTrial.of(what), BACKBONE_CHECKS)


def _images(size: Size, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, *size, generator=generator)


def _weighted_sum(features: Features) -> Tensor:
    """Add features up with random weights, because the sum of normalized features is constant."""
    generator = torch.Generator().manual_seed(1)
    parts = [part.float() for part in (*features.maps, features.pooled)]
    return torch.stack(
        [(part * torch.randn(part.shape, generator=generator)).sum() for part in parts]
    ).sum()


def _features(backbone: Backbone, images: Tensor) -> Features:
    with torch.no_grad():
        found = backbone(images)
    running = Attempt("to run it", "Features(maps, pooled)", "backbone.Features")
    running.expect(isinstance(found, Features), type(found).__name__)
    return Features(*found)


def _near(one: Features, other: Features, most: float) -> bool:
    pairs = zip((*one.maps, one.pooled), (*other.maps, other.pooled), strict=True)
    return all(
        a.shape == b.shape and float((a - b).abs().max()) <= most * max(1.0, float(a.abs().max()))
        for a, b in pairs
    )
