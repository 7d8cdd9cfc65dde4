"""Two processes that train one task together.

``python -m visiongraft.testing.processes REQUEST`` is one of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from visiongraft.network import Network
from visiongraft.task import Task, create_task
from visiongraft.testing.report import Fault

PROCESSES = 2
SECONDS = 240


@dataclass(frozen=True)
class Together:
    """What came out of a run of several processes.

    Attributes:
        metrics: The best epoch's metrics, as each process saw them.
        losses: The mean loss of each epoch.
    """

    metrics: list[dict[str, Any]]
    losses: list[float]


def start_together(task: Task, backbone: str, folder: Path, tried: str) -> Together:
    """Train a task's head in two processes, each of which makes the example data by itself.

    Args:
        task: The task; its class is imported again, by name or from its file.
        backbone: Name of the backbone.
        folder: Where to write.
        tried: What this is, for faults.

    Returns:
        What came out.

    Raises:
        Fault: A process failed, or none ended in time.
    """
    kind = type(task)
    request = {
        "module": kind.__module__,
        "file": getattr(sys.modules.get(kind.__module__), "__file__", None),
        "class": kind.__qualname__,
        "options": task.options(),
        "backbone": backbone,
        "folder": str(folder),
    }
    if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
        found = f"{kind.__qualname__} in {kind.__module__}"
        raise Fault(tried, found, "a class at the top of a module, which can be imported")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [_start(json.dumps(request), rank, port, folder) for rank in range(PROCESSES)]
    try:
        _wait_for(started, tried)
    finally:
        for process in started:
            process.kill()
            process.wait()
    for rank, process in enumerate(started):
        if process.returncode > 0:
            said = (folder / f"{rank}.err").read_text("utf-8", "replace").strip() or "no word"
            got = f"exit code {process.returncode}: {said.splitlines()[-1]}"
            raise Fault(tried, got, "no error")
    metrics = [json.loads((folder / f"{r}.json").read_text("utf-8")) for r in range(PROCESSES)]
    lines = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    return Together(metrics, [json.loads(line)["train"]["loss"] for line in lines])


def trains_at_random(network: Network) -> bool:
    """Say whether dropout or batch norm makes a head see other numbers in each process."""
    kinds = (_BatchNorm, _DropoutNd)
    parts: tuple[nn.Module, ...] = (network.head, network.loss)
    return any(isinstance(m, kinds) for part in parts for m in part.modules())


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
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    words = [sys.executable, "-m", "visiongraft.testing.processes", request]
    with open(folder / f"{rank}.err", "wb") as said:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )


def _wait_for(started: list[subprocess.Popen[bytes]], tried: str) -> None:
    """Wait until all have ended, or one has failed: the others would wait for it."""
    end = time.monotonic() + SECONDS
    while any(process.poll() is None for process in started):
        if any(process.poll() for process in started):
            return
        if time.monotonic() > end:
            raise Fault(tried, f"no end after {SECONDS} seconds", "an end")
        time.sleep(0.05)


def _import(name: str, file: str | None) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        if file is None:
            raise
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _train(request: dict[str, Any]) -> None:
    from visiongraft.fitting import fit
    from visiongraft.testing.trial import BATCH, PICTURES, SIZE

    found: Any = _import(request["module"], request["file"])
    for name in request["class"].split("."):
        found = getattr(found, name)
    task = create_task(found, request["options"])
    rank = int(os.environ["RANK"])
    folder = Path(request["folder"])
    data = folder / f"data-{rank}"
    data.mkdir()
    model = fit(
        task.example_data(data, PICTURES, 0),
        task=task,
        backbone=request["backbone"],
        weights=None,
        size=SIZE,
        batch_size=BATCH // PROCESSES,
        schedule="linear_probe",
        epochs=2,
        workers=0,
        device="cpu",
        replay=False,
        listeners=[],
        out=folder / "run",
    )
    path = folder / f"{rank}.json"
    path.write_text(json.dumps(model.facts["metrics"]), encoding="utf-8")


if __name__ == "__main__":
    _train(json.loads(sys.argv[1]))
