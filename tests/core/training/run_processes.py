"""The same training in one process or several.

Usage: python run_processes.py FOLDER BATCH_SIZE [wrap-once]
With "wrap-once" the gradients are hooked at the start of the run only, as other tools do it.
"""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
from accelerate import Accelerator
from conftest import Toy, fit_toy, register_toys, toy_data
from torch import nn

from visiongraft.schedules import Phase, schedule
from visiongraft.training.engine import Engine


@schedule
def probe_then_all(stages, epochs):
    yield Phase(1, "head", 1e-2)
    yield Phase(epochs - 1, "all", 1e-3, batch_norm="frozen")


class Linear(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, 3)

    def forward(self, features):
        return self.linear(features.pooled)


class Plain(Toy):
    """Without the head's batch norm and dropout, which only see the images of their own process."""

    def build_head(self, backbone):
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return Linear(backbone.info.embedding_dim)


def wrap_once():
    prepare = Accelerator.prepare_model
    kept = []

    def prepare_once(accelerator, network):
        if not kept:
            kept.append(prepare(accelerator, network))
        return kept[0]

    Accelerator.prepare_model = prepare_once


def digest_last_weights():
    """Hash the weights that each process ends with, before it takes those of the best epoch."""
    finish = Engine._finish
    digests = []

    def digest_and_finish(engine):
        tensors = engine.run.network.state_dict().values()
        content = b"".join(t.cpu().contiguous().numpy().tobytes() for t in tensors)
        digests.append(hashlib.sha256(content).hexdigest())
        finish(engine)

    Engine._finish = digest_and_finish
    return digests


if __name__ == "__main__":
    register_toys()
    folder, size, *fault = sys.argv[1:]
    if fault == ["wrap-once"]:
        wrap_once()
    last_weights = digest_last_weights()
    fit_toy(
        toy_data(51),  # a last batch that does not divide evenly
        task=Plain(augment=False),
        out=folder,
        schedule=probe_then_all,
        epochs=3,
        batch_size=int(size),
        ema=0.9,
        replay=False,
        device="cpu" if torch.cuda.is_available() else None,
    )
    joined = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    Path(folder, f"rank{os.environ.get('RANK', '0')}").write_text(f"{joined} {last_weights[0]}")
