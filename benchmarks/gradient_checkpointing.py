"""Memory and time of training steps with and without gradient checkpointing, each in its own process.

    python benchmarks/gradient_checkpointing.py --batch 32

prints one line per backbone: the peak memory above that of a process that only built the network, and the
median time of a step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from visiongraft.lookup.backbones import load_backbone
from visiongraft.training.execution.recomputing import checkpointed_modules, recomputing

BACKBONES = ("timm/resnet50", "timm/efficientnet_lite0", "timm/vit_small_patch16_224")


def measure(name: str, batch: int, size: int, steps: int, on: bool) -> dict[str, float]:
    """Make a few training steps of a backbone in this process.

    Args:
        name: Name of the backbone.
        batch: Batch size.
        size: Height and width of the images in pixels.
        steps: Number of steps.
        on: Whether activations are recomputed.

    Returns:
        Peak memory in MB above that before the first step, and the median seconds of a step.
    """
    torch.manual_seed(0)
    backbone = load_backbone(name, weights=None, size=size).train()
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    modules = checkpointed_modules(backbone) if on else ()
    before, times = _peak(), []
    for _ in range(steps):
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        started = time.perf_counter()
        with recomputing(modules):
            features = backbone(images)
        features.pooled.square().mean().backward()
        backbone.zero_grad()
        times.append(time.perf_counter() - started)
    return {"megabytes": _peak() - before, "seconds": statistics.median(times)}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kB on Linux


def main() -> None:
    """Measure each backbone with and without gradient checkpointing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--one", choices=("on", "off"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        values = measure(
            given.backbones[0], given.batch, given.size, given.steps, given.one == "on"
        )
        print(json.dumps(values))
        return
    print(f"torch {torch.__version__}, {given.batch} images of {given.size}x{given.size} pixels")
    for name in given.backbones:
        options = f"--batch {given.batch} --size {given.size} --steps {given.steps}".split()
        off, on = (
            json.loads(
                subprocess.run(
                    [sys.executable, __file__, "--backbones", name, *options, "--one", which],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for which in ("off", "on")
        )
        print(
            f"{name:30} {off['megabytes']:7.0f} MB -> {on['megabytes']:6.0f} MB "
            f"({on['megabytes'] / off['megabytes']:.2f} x)   "
            f"{off['seconds']:6.2f} s -> {on['seconds']:6.2f} s a step "
            f"({on['seconds'] / off['seconds']:.2f} x)",
            flush=True,
        )


if __name__ == "__main__":
    main()
