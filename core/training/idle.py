"""Adapters and transfer losses that a run had no use for, since its schedule trained too little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visiongraft.network import Network


def idle_parts(network: Network, receipts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what could not have an effect because what it acts on was frozen in all phases.

    Args:
        network: The network after training.
        receipts: The receipts of all phases, as JSON values.

    Returns:
        A line for each adapter that never trained, and for each transfer loss on features of a backbone
        that never trained.
    """
    frozen = set.intersection(*(set(receipt["frozen"]) for receipt in receipts))
    lines = [
        f"adapter {name!r} changed nothing: its parameters were frozen in all phases"
        for name, own in network.adapter_parameters.items()
        if own and own <= frozen
    ]
    losses = network.transfer.named_losses if network.transfer is not None else {}
    backbone = {f"backbone.{name}" for name, _ in network.backbone.named_parameters()}
    if backbone <= frozen:
        lines += [
            f"transfer loss {name!r} acts on features, and changed nothing: the backbone was frozen in "
            "all phases"
            for name, loss in losses.items()
            if loss.reads_features and not loss.reads_outputs
        ]
    return lines
