"""fastai's `fine_tune`, run by an interpreter that has fastai.

    FASTAI_PYTHON fastai_peer.py SETTINGS

SETTINGS are those of ``peer_loops.Settings`` as JSON: the folder of the data, the weights (of timm's architecture,
as safetensors), numbers of epochs, sizes and the seed. It prints one JSON object: the seconds of each training
epoch, and probabilities and class ids of the validation images.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from fastai.vision import all as fastai
from safetensors.torch import load_file


class Clock(fastai.Callback):
    """Records the seconds that training took in each epoch, without validation."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.seconds = now, []

    def before_train(self) -> None:
        self.start = self.now()

    def after_train(self) -> None:
        self.seconds.append(self.now() - self.start)


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
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    fastai.set_seed(settings["seed"], reproducible=True)
    clock = Clock(time.process_time if settings["clock"] == "cpu" else time.perf_counter)
    learn = learner(settings)
    learn.add_cb(clock)
    with learn.no_bar(), learn.no_logging():
        if settings["epochs"]:
            learn.fine_tune(settings["epochs"], freeze_epochs=settings["frozen_epochs"])
        else:
            learn.freeze()
            learn.fit_one_cycle(settings["frozen_epochs"])
        probabilities, targets = learn.get_preds()
    results = {"probabilities": probabilities.tolist(), "targets": targets.tolist()}
    print(json.dumps({"seconds": clock.seconds, **results}))


if __name__ == "__main__":
    main()
