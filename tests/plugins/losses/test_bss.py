"""BSS against eigenvalues computed with numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from visiongraft.backbone import Features
from visiongraft.data.batch import Batch, StepInfo
from visiongraft.errors import OptionError
from visiongraft.lookup.backbones import load_backbone
from visiongraft.plugins.losses.bss import BSS
from visiongraft.training.transfer_losses import TransferStep


def spectrum(pooled: torch.Tensor, k: int = 1) -> torch.Tensor:
    backbone = load_backbone("simple_cnn", weights=None, size=8)
    batch = Batch(pooled, None, torch.zeros(len(pooled), 2), torch.arange(len(pooled)))
    step: Any = TransferStep(backbone, backbone, backbone, batch, None)  # type: ignore[arg-type]
    step.seen = pooled, Features((), pooled)
    return BSS(backbone, backbone, strength=2.0, k=k)(step)["spectrum"]


@pytest.mark.parametrize(("shape", "k"), [((4, 7), 1), ((7, 4), 2)])
def test_it_is_the_smallest_eigenvalues_of_the_gram_matrix_relative_to_their_mean(
    shape: tuple[int, int], k: int
) -> None:
    pooled = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix = pooled.double().numpy()
    gram = matrix @ matrix.T if shape[0] < shape[1] else matrix.T @ matrix
    values = np.sort(np.linalg.eigvalsh(gram))
    expected = 2.0 * values[:k].sum() / values.mean()
    assert float(spectrum(pooled, k)) == pytest.approx(expected, rel=1e-4)


def test_its_gradient_has_the_direction_of_the_papers() -> None:
    pooled = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (ours,) = torch.autograd.grad(spectrum(pooled), pooled)
    paper = torch.linalg.svdvals(pooled)[-1].square()
    (theirs,) = torch.autograd.grad(paper, pooled)
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.9999


def test_it_depends_neither_on_the_scale_of_features_nor_on_repeated_batches() -> None:
    pooled = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    once = float(spectrum(pooled))
    assert float(spectrum(pooled * 30)) == pytest.approx(once, rel=1e-4)
    assert float(spectrum(pooled.repeat(2, 1))) == pytest.approx(once, rel=1e-4)


def test_batches_with_too_few_samples_are_left_alone() -> None:
    pooled = torch.ones(2, 5, requires_grad=True)
    loss = spectrum(pooled, k=2)
    loss.backward()
    assert float(loss.detach()) == 0 and not pooled.grad.any()  # type: ignore[union-attr]


def test_batches_that_are_too_small_are_warned_of_in_the_first_step(
    bench: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    at = bench("bss(k=4)")
    at.parts(at.batch(range(3)))
    assert "'bss' has no effect in batches of 3; it needs 5 images or more" in caplog.text
    caplog.clear()
    at.parts(replace(at.batch(range(3)), step=StepInfo(number=1)))
    assert not caplog.text


def test_more_values_than_an_embedding_has_are_refused(bench: Callable[..., Any]) -> None:
    with pytest.raises(OptionError, match="k=128 of bss is not below the 128 values"):
        bench("bss(k=128)")


def test_a_batch_without_rank_is_finite() -> None:
    pooled = torch.zeros(4, 5, requires_grad=True)
    spectrum(pooled).backward()
    assert pooled.grad is not None and pooled.grad.isfinite().all()


@pytest.mark.parametrize("options", ["k=0", "k=1.5", "strength=-1"])
def test_options_out_of_range_are_refused(bench: Callable[..., Any], options: str) -> None:
    with pytest.raises(OptionError, match="of bss is not"):
        bench(f"bss({options})")
