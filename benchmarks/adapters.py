"""Adapters against full fine-tuning: trainable parameters, accuracy, memory and time.

    python benchmarks/adapters.py --data FOLDER [--backbone NAME] [--weights FILE] [--epochs N]
                                  [--seeds N] [--device NAME] [...] [METHOD ...]

Prints a Markdown table; accuracies are those of the last epoch, means over seeds with standard errors. Each
run has a process of its own. Memory is the peak that PyTorch allocated on the GPU; on a CPU it is the growth
of the process's peak, and the seconds are those of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

METHODS: dict[str, tuple[list[str], str]] = {  # adapters and schedule of each
    "linear probe": ([], "linear_probe"),
    "full": ([], "full"),
    "lora": (["lora(rank=8)"], "full(learning_rate=0.002, layer_decay=1.0)"),
    "dora": (["dora(rank=8)"], "full(learning_rate=0.002, layer_decay=1.0)"),
    "ia3": (["ia3"], "full(learning_rate=0.005, layer_decay=1.0)"),
    "bottleneck": (["bottleneck"], "full(learning_rate=0.002, layer_decay=1.0)"),
    "bitfit": (["bitfit"], "full(learning_rate=0.002, layer_decay=1.0)"),
    "norm": (["norm"], "full(learning_rate=0.002, layer_decay=1.0)"),
    "stoch_norm": (["stoch_norm"], "full"),
}


def measure(method: str, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """Train once, in this process."""
    import torch

    import visiongraft

    class Count:
        trainable = 0

        @visiongraft.hookimpl
        def phase_started(self, run: Any) -> None:
            backbone = run.network.backbone.parameters()
            self.trainable = sum(p.numel() for p in backbone if p.requires_grad)

    count = Count()
    adapters, schedule = METHODS[method]
    clock = time.perf_counter if settings["device"] == "cuda" else time.process_time
    torch.zeros(1, device=settings["device"])
    before, begun = peak_memory(settings["device"]), clock()
    model = visiongraft.fit(
        task="classification",
        adapters=adapters,
        schedule=schedule,
        seed=seed,
        replay=False,
        select="last",
        callbacks=[count],
        **settings,
    )
    return {
        "trainable": count.trainable,
        "accuracy": model.facts["metrics"]["accuracy"],
        "seconds": clock() - begun,
        "megabytes": peak_memory(settings["device"]) - before,
    }


def peak_memory(device: str) -> float:
    """Return the peak of allocated memory in megabytes."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(method: str, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """Train once, in a process of its own."""
    words = [sys.executable, __file__, "--one", json.dumps([method, seed, settings])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{method}: {done.stderr.strip().splitlines()[-1]}")
    results: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="bundled/efficientnet_lite0")
    parser.add_argument("--weights", default="pretrained")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*json.loads(given.one))))
        return
    settings = {
        name: getattr(given, name)
        for name in ("data", "backbone", "weights", "epochs", "size", "batch_size", "device")
    }
    print("| method | trainable in the backbone | accuracy | memory (MB) | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for method in given.methods:
        runs = [measured(method, seed, settings) for seed in range(given.seeds)]
        accuracies = [run["accuracy"] for run in runs]
        accuracy = f"{statistics.mean(accuracies):.4f}"
        if len(runs) > 1:
            accuracy += f" ± {statistics.stdev(accuracies) / len(runs) ** 0.5:.4f}"
        memory, seconds = (
            statistics.mean(run[name] for run in runs) for name in ("megabytes", "seconds")
        )
        print(
            f"| {method} | {runs[0]['trainable']:,} | {accuracy} | {memory:.0f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
