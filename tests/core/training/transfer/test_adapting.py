"""The network that is evaluated and kept may be adapted; the one that trains stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.core.stopping import StopAt
from visiongraft.data.batch import Batch
from visiongraft.errors import ReceiptError
from visiongraft.hookspecs import hookimpl
from visiongraft.network import Network
from visiongraft.registry.manager import plugins
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.transfer_losses import TransferLoss, TransferStep

SEEN: list[list[int]] = []


class Shifting(TransferLoss):
    """Sets the running means of a frozen batch norm to the images' mean, if it may."""

    name = "shifting"
    adapts_to = ("unlabelled",)

    def __init__(
        self, backbone: Any, source: Any, *, may: bool = True, weights: bool = False
    ) -> None:
        super().__init__(backbone, source)
        self.adapts_frozen, self.weights = may, weights

    def forward(self, step: TransferStep) -> dict[str, Tensor]:
        assert not step.batch.streams
        return {}

    def adapt(self, network: Network, targets: Mapping[str, Iterable[Batch]]) -> None:
        assert not network.training and not torch.is_grad_enabled()
        batches = list(targets["unlabelled"])
        SEEN.append([len(batch.images) for batch in batches])
        norm = network.backbone.get_submodule("blocks.stem.1")
        norm.running_mean.fill_(torch.cat([b.images for b in batches]).mean())  # type: ignore[operator]
        if self.weights:
            next(network.head.parameters()).add_(1)


@pytest.fixture(autouse=True)
def registered() -> None:
    SEEN.clear()
    if "shifting" not in plugins().losses():
        plugin = SimpleNamespace(
            register_losses=hookimpl(lambda: [Shifting], specname="register_losses")
        )
        assert plugins().register(plugin, "shifting").problems == []


def images(data: Any) -> list[Any]:
    return [image for image, _ in data]


SETTINGS: dict[str, Any] = {"device": "cpu", "epochs": 2, "batch_size": 8, "ema": 0.9}


def test_an_adapted_run_trains_as_one_that_is_not_and_resumes_exactly(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "streams": {"unlabelled": images(toy_data(13))}, "checkpoint_every": 1}
    model = fit_toy(toy_data(30), transfer_loss="shifting", out=tmp_path / "whole", **settings)
    assert SEEN == [[13], [13]]
    kept = model.network.backbone.get_buffer("blocks.stem.1.running_mean")
    assert len(set(kept.tolist())) == 1 and kept[0] != 0

    with pytest.raises(KeyboardInterrupt):
        fit_toy(
            toy_data(30),
            transfer_loss="shifting",
            out=tmp_path / "part",
            **{**settings, "callbacks": [StopAt(5)]},
        )
    fit_toy(toy_data(30), transfer_loss="shifting", out=tmp_path / "part", resume=True, **settings)
    plain = {**settings, "streams": None}
    fit_toy(toy_data(30), out=tmp_path / "plain", **plain)
    whole, part, without = (
        Checkpoint.read(tmp_path / run / "checkpoints" / "last.safetensors").tensors["network"]
        for run in ("whole", "part", "plain")
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, part[name]) and torch.equal(tensor, without[name]), name


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (
            "shifting(may=False)",
            "'shifting' changed 'backbone.blocks.stem.1.running_mean' while it",
        ),
        ("shifting(weights=True)", "'shifting' changed 'head.norm.weight' while it adapted"),
    ],
)
def test_changing_more_than_is_allowed_breaks_the_receipt(
    fit_toy: Any, toy_data: Any, loss: str, words: str
) -> None:
    settings = {**SETTINGS, "epochs": 1, "streams": {"unlabelled": images(toy_data(9))}}
    with pytest.raises(ReceiptError, match=words):
        fit_toy(toy_data(30), transfer_loss=loss, **settings)


def test_a_stream_to_adapt_to_is_needed(fit_toy: Any, toy_data: Any) -> None:
    with pytest.raises(Exception, match="'shifting' needs the stream 'unlabelled'"):
        fit_toy(toy_data(30), transfer_loss="shifting", **SETTINGS)
