"""LwF begins at its minimum, and is the divergence from the source's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from visiongraft.errors import OptionError


def test_it_is_zero_before_the_first_step(bench: Callable[..., Any]) -> None:
    at = bench("lwf")
    assert float(at.parts(at.batch())["old_outputs"].detach()) == pytest.approx(0, abs=1e-7)


def test_it_is_the_divergence_of_old_outputs_on_the_moved_backbone(
    bench: Callable[..., Any],
) -> None:
    at = bench("lwf(strength=0.5, temperature=3.0)")
    at.move()
    batch = at.batch()
    with torch.no_grad():
        old = at.transfer.source_head(at.transfer.source(batch.images)) / 3
        new = at.transfer.source_head(at.network.backbone(batch.images)) / 3
        each = (old.softmax(1) * (old.log_softmax(1) - new.log_softmax(1))).sum(1)
    expected = 0.5 * 9 * float(each.mean())
    part = at.parts(batch)["old_outputs"]
    assert expected > 0 and float(part.detach()) == pytest.approx(expected, rel=1e-4)
    part.backward()
    assert all(p.grad is None for p in at.transfer.source_head.parameters())
    assert all(p.grad is not None for p in at.network.backbone.parameters())


def test_the_source_head_stays_as_it_is(bench: Callable[..., Any]) -> None:
    at = bench("lwf")
    at.network.train()
    assert not list(at.loss.parameters())
    assert not any(module.training for module in at.transfer.source_head.modules())


@pytest.mark.parametrize("options", ["temperature=0", "strength='x'"])
def test_options_out_of_range_are_refused(bench: Callable[..., Any], options: str) -> None:
    with pytest.raises(OptionError, match="of lwf is not"):
        bench(f"lwf({options})")
