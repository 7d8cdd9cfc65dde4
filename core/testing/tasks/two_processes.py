"""Two processes that train one task together.

``python -m visiongraft.testing.tasks.two_processes REQUEST`` is one of them.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.registry.sources import import_file
from visiongraft.task import Task, create_task
from visiongraft.testing.report import Fault

PROCESSES = 2
SECONDS = 240
IMAGES_FILE = "images.npz"


@dataclass(frozen=True)
class Together:
    """The results of a run with several processes.

    Attributes:
        settings: The settings of an equivalent run with one process.
        losses: The mean loss of each epoch.
        options: The bound task's options in each process.
        metrics: The best epoch's metrics in each process.
        weights: A digest of each process's parameters at the end.
        predictions: One JSON text for each saved image, as the first process predicted them with
            the saved model before it trained; or the error.
    """

    settings: dict[str, Any]
    losses: list[float]
    options: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    weights: list[str]
    predictions: list[str] | str


def start_together(task: Task, settings: dict[str, Any], folder: Path, tried: str) -> Together:
    """Train a task in two processes, each of which creates the example dataset itself.

    They use different hash seeds, so that sets are ordered differently in each.

    Args:
        task: The task; its class is imported again, by name or from its file.
        settings: Settings of ``fit`` as JSON values; ``batch_size`` is the total of both.
        folder: Where to write; contains a saved ``model`` and the images of ``save_images``.
        tried: What is tried, for messages.

    Returns:
        What came out.

    Raises:
        Fault: A process failed or timed out.
    """
    kind = type(task)
    request = {
        "module": kind.__module__,
        "file": getattr(sys.modules.get(kind.__module__), "__file__", None),
        "class": kind.__qualname__,
        "options": task.options(),
        "settings": {**settings, "batch_size": settings["batch_size"] // PROCESSES},
        "folder": str(folder),
    }
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        found = f"{kind.__qualname__} in {kind.__module__}"
        raise Fault(tried, found, "a module-level class, which can be imported")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [_start(json.dumps(request), rank, port, folder) for rank in range(PROCESSES)]
    try:
        codes = _wait_for(started, tried)
    finally:
        for process in started:
            process.kill()
            process.wait()
    for rank, code in enumerate(codes):
        if code:
            said = (folder / f"{rank}.err").read_text("utf-8", "replace").strip() or "no output"
            raise Fault(tried, f"exit code {code}: {said.splitlines()[-1]}", "no error")
    answers = [json.loads((folder / f"{r}.json").read_text("utf-8")) for r in range(PROCESSES)]
    lines = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    return Together(
        settings=settings,
        losses=[json.loads(line)["train"]["loss"] for line in lines],
        options=[answer["options"] for answer in answers],
        metrics=[answer["metrics"] for answer in answers],
        weights=[answer["weights"] for answer in answers],
        predictions=answers[0]["predictions"],
    )


def save_images(folder: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Save images for the first process to predict."""
    np.savez(folder / IMAGES_FILE, *images)


def _start(request: str, rank: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
        "LOCAL_WORLD_SIZE": str(PROCESSES),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": str(rank + 1),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    words = [sys.executable, "-m", "visiongraft.testing.tasks.two_processes", request]
    with open(folder / f"{rank}.err", "wb") as said:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )


def _wait_for(started: list[subprocess.Popen[bytes]], tried: str) -> list[int | None]:
    """Wait until all have ended or one has failed, for which the others would wait."""
    end = time.monotonic() + SECONDS
    while True:
        codes = [process.poll() for process in started]
        if None not in codes or any(codes):
            return codes
        if time.monotonic() > end:
            raise Fault(tried, f"no end after {SECONDS} seconds", "an end")
        time.sleep(0.05)


def _import(name: str, file: str | None) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        if file is None:
            raise
        return import_file(Path(file))


def _train(request: dict[str, Any]) -> None:
    from visiongraft.fitting import fit
    from visiongraft.testing.tasks.trial import IMAGES
    from visiongraft.training.freezing import digest

    kind: Any = _import(request["module"], request["file"])
    for name in request["class"].split("."):
        kind = getattr(kind, name)
    task = create_task(kind, request["options"])
    rank = int(os.environ["RANK"])
    folder = Path(request["folder"])
    predictions = (
        _predict(kind, folder) if rank == 0 else None
    )  # while nothing is known of the data
    data, further = folder / f"data-{rank}", folder / f"streams-{rank}"
    data.mkdir()
    further.mkdir()
    examples = task.examples()
    assert examples is not None  # the trial has made some already
    streams = examples.make_streams(further, IMAGES, 0) if examples.make_streams else None
    model = fit(
        examples.make_dataset(data, IMAGES, 0),
        task=task,
        streams=streams,
        weights=None,
        workers=0,
        device="cpu",
        replay=False,
        callbacks=[],
        out=folder / "run",
        **request["settings"],
    )
    answer = {
        "options": model.task.options(),
        "metrics": model.facts["metrics"],
        "weights": " ".join(digest(p.detach()) for p in model.network.parameters()),
        "predictions": predictions,
    }
    (folder / f"{rank}.json").write_text(json.dumps(answer), encoding="utf-8")


def _predict(kind: type[Task], folder: Path) -> list[str] | str:
    from visiongraft.model import load

    with np.load(folder / IMAGES_FILE) as saved:
        images = list(saved.values())
    try:
        found = load(folder / "model", task=kind).predict(images)
        return [json.dumps(asdict(one)) for one in found]
    except Exception as error:  # third-party tasks may raise anything
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    _train(json.loads(sys.argv[1]))
