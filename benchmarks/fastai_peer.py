"""fastai's `fine_tune`, run by an interpreter that has fastai: reads settings as JSON, writes what was measured.

    FASTAI_PYTHON fastai_peer.py SETTINGS.json

The settings name the folder of the data, the weights (of timm's architecture, as safetensors), the number of
frozen and of unfrozen epochs, batch and image size, the seed, and the file for probabilities. It prints one
JSON object: seconds of each epoch and the validation accuracy after it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.vision import all as fastai
from safetensors.torch import load_file


class Clock(fastai.Callback):
    """Records the seconds that training took in each epoch, without validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train(self) -> None:
        self.start = time.perf_counter()

    def after_train(self) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def learner(settings: dict[str, Any]) -> Any:
    """Build the learner as fastai's tutorials do, on the same weights as the others."""
    size, batch = settings["size"], settings["batch_size"]
    mean, std = settings["mean"], settings["std"]
    loaders = fastai.ImageDataLoaders.from_folder(
        settings["data"],
        train="train",
        valid="val",
        item_tfms=fastai.Resize(size),
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(mean, std)],
        bs=batch,
        num_workers=settings["workers"],
        seed=settings["seed"],
    )
    built = fastai.vision_learner(
        loaders, settings["architecture"], pretrained=False, metrics=fastai.accuracy
    )
    body = built.model[0].model
    own = body.state_dict()
    weights = load_file(settings["weights"])
    body.load_state_dict({name: weights[name] for name in own})
    return built


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(settings["threads"])
    fastai.set_seed(settings["seed"], reproducible=True)
    clock = Clock()
    learn = learner(settings)
    learn.add_cb(clock)
    with learn.no_bar(), learn.no_logging():
        if settings["epochs"]:
            learn.fine_tune(settings["epochs"], freeze_epochs=settings["frozen_epochs"])
        else:
            learn.freeze()
            learn.fit_one_cycle(settings["frozen_epochs"])
        probabilities, targets = learn.get_preds()
    np.savez(settings["out"], probabilities=probabilities.numpy(), targets=targets.numpy())
    print(json.dumps({"seconds": clock.seconds}))


if __name__ == "__main__":
    main()
