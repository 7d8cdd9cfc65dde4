"""The same training in one process or several: python run_processes.py FOLDER BATCH_SIZE."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from conftest import Toy, fit_toy, register_toys, toy_data
from torch import nn

from visiongraft.schedules import Phase, schedule


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
    """Without the head's batch norm and dropout, which see each process's part by itself."""

    def build_head(self, backbone):
        for module in backbone.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return Linear(backbone.info.embedding_dim)


if __name__ == "__main__":
    register_toys()
    folder, size = sys.argv[1:]
    fit_toy(
        toy_data(51),  # a last batch that does not divide evenly
        task=Plain(augment=False),
        out=folder,
        schedule=probe_then_all,
        epochs=3,
        batch_size=int(size),
        replay=False,
        device="cpu" if torch.cuda.is_available() else None,
    )
