"""What a model consists of: its stages with their parameters, its operations and its size."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visiongraft.backbone import licenses
from visiongraft.errors import name_some
from visiongraft.html import html_table
from visiongraft.network import Network

HEAD = "head"
CLASSES = 8  # that are named in a notebook


@dataclass(frozen=True)
class StageSummary:
    """The parameters of one stage of the backbone, or of the head.

    Attributes:
        name: Name of the stage, or ``"head"``.
        parameters: Number of parameters.
        trainable: Number of those that require gradients; after training, those that any phase has trained.
    """

    name: str
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Summary:
    """What a model consists of; its text is a table.

    Attributes:
        title: Task, backbone and size of the network's input.
        stages: From the input to the output.
        macs: Multiply-accumulate operations for one sample, in the operators that PyTorch counts:
            convolutions, matrix products and attention.
        megabytes: Size of all parameters and buffers in memory.
    """

    title: str
    stages: tuple[StageSummary, ...]
    macs: int
    megabytes: float

    def __str__(self) -> str:
        total = StageSummary(
            "total", *(sum(getattr(s, n) for s in self.stages) for n in ("parameters", "trainable"))
        )
        width = max(len(stage.name) for stage in (*self.stages, total))
        lines = [f"{'stage':<{width}}  {'parameters':>13}  {'trainable':>13}"]
        lines += [
            f"{s.name:<{width}}  {s.parameters:>13,}  {s.trainable:>13,}"
            for s in (*self.stages, total)
        ]
        size = f"{self.macs / 1e9:.3f} GMACs per sample, {self.megabytes:.1f} MB of weights"
        return "\n".join([self.title, *lines, size])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def summarize(network: Network) -> Summary:
    """Count the parameters and operations of a network, by one pass on a blank sample.

    Args:
        network: The network; left in evaluation mode.
    """
    info, task = network.backbone.info, network.task
    owned: dict[str, list[nn.Parameter]] = {name: [] for name in info.stage_of.values()}
    for name, parameter in network.backbone.named_parameters():
        owned.setdefault(info.stage_of.get(name, "adapters"), []).append(parameter)
    owned[HEAD] = list(network.head.parameters())
    height, width = info.preprocess.size
    tensors = [t for n, t in network.state_dict().items() if not n.startswith("loss.")]
    return Summary(
        f"{task.name} on {info.name}, {height} x {width} pixels",
        tuple(_stage(name, parameters) for name, parameters in owned.items()),
        _macs(network),
        sum(t.numel() * t.element_size() for t in tensors) / 1e6,
    )


def html_facts(network: Network, facts: Mapping[str, Any], run_folder: Path | None) -> str:
    """Write what a model is as a table for notebooks.

    Args:
        network: The network.
        facts: ``TransferModel.facts``.
        run_folder: The run that it came out of, if known.
    """
    info, task = network.backbone.info, network.task
    height, width = info.preprocess.size
    names, metrics = task.metadata().get("class_names", ()), facts.get("metrics", {})
    known = licenses(info.provenance).items()
    rows: dict[str, object] = {
        "task": task.name,
        "backbone": info.name,
        "licenses": "; ".join(f"{text} ({whose})" for whose, text in known),
        "input": f"{height} x {width} pixels, {info.in_channels} channels",
        "classes": name_some(map(str, names), CLASSES),
        "parameters": f"{sum(p.numel() for p in network.parameters()):,}",
        "adapters": ", ".join(network.adapter_parameters),
        task.headline: metrics.get(task.headline),
        "run": run_folder,
    }
    return html_table(["model", ""], [row for row in rows.items() if row[1] not in ("", None)])


def _stage(name: str, parameters: list[nn.Parameter]) -> StageSummary:
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return StageSummary(name, sum(p.numel() for p in parameters), trainable)


def _macs(network: Network) -> int:
    info, device = network.backbone.info, next(network.parameters()).device
    shape = network.task.inputs.blank(1, info.in_channels, info.preprocess.size)
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.task.inference_step(network, torch.zeros(shape, device=device))
    return int(counter.get_total_flops()) // 2
