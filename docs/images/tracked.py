"""Draw ``tracker-*.png``: two runs on the pages of TensorBoard, MLflow and trackio, and what W&B keeps offline.

Run it from anywhere, in the environment of ``make trackers``: ``.venv/trackers/bin/python docs/images/tracked.py [NAME ...]``. It needs
scikit-image, playwright and Chromium. The servers are on this machine, and nothing is asked from others.
"""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pages import launched, opened_address, screenshot
from quick_start import PAGE, script_of

import visiongraft as vg

WIDE = {"width": 1200, "height": 760}
RATES = {"gentle": 1e-3, "brisk": 1e-2}
PATIENCE = 240.0  # seconds until a server listens on a busy machine


def free_port() -> int:
    """Return the number of a port that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(words: Sequence[str], port: int) -> Iterator[str]:
    """Run a server until its page has been looked at, and yield its address."""
    quiet = subprocess.DEVNULL
    server = subprocess.Popen([sys.executable, *words], stdout=quiet, stderr=quiet)
    end = time.monotonic() + PATIENCE
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{words} did not start")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def train(tracker: str) -> None:
    """Train twice, with a tracker."""
    for name, rate in RATES.items():
        vg.fit(
            "photos",
            task="classification",
            backbone="simple_cnn",
            weights=None,
            schedule=f"full(learning_rate={rate}, batch_norm='train')",
            epochs=12,
            size=32,
            validation=0.4,
            out=Path("runs") / name,
            callbacks=(),
            trackers=[tracker],
        )


def look(browser: Any, address: str, name: str, ready: str, beside: int = 0) -> None:
    """Take a picture of a page as soon as something is on it, without a pane on its right."""
    size = {**WIDE, "width": WIDE["width"] + beside}
    page = opened_address(browser, address, viewport=size)
    page.wait_for_selector(ready, timeout=180_000)
    page.wait_for_timeout(6000)
    screenshot(page, f"tracker-{name}.png", clip={"x": 0, "y": 0, **WIDE})


def tensorboard(browser: Any) -> None:
    """Look at TensorBoard's scalars."""
    train("tensorboard")
    port = free_port()
    words = ["-m", "tensorboard.main", "--logdir", "runs", "--port", str(port), "--bind_all"]
    with served(words, port) as address:
        look(
            browser,
            f"{address}/#timeseries&tagFilter=loss%7Caccuracy",
            "tensorboard",
            "scalar-card",
        )


def mlflow(browser: Any) -> None:
    """Look at the charts of MLflow's experiment."""
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    train("mlflow")
    port = free_port()
    words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with served([*words, "--backend-store-uri", "sqlite:///mlflow.db"], port) as address:
        look(
            browser,
            f"{address}/#/experiments/1/runs?compareRunsMode=CHART",
            "mlflow",
            "svg.main-svg",
            beside=310,
        )


def trackio(browser: Any) -> None:
    """Look at trackio's dashboard."""
    os.environ["TRACKIO_DIR"] = str(Path("trackio").resolve())
    train("trackio")
    port = free_port()
    os.environ["GRADIO_SERVER_PORT"] = str(port)
    with served(["-m", "trackio.cli", "show", "--project", "visiongraft"], port) as address:
        look(browser, address, "trackio", "canvas, svg.marks")


def main() -> None:
    """Draw those that are named, or all."""
    known = {"tensorboard": tensorboard, "mlflow": mlflow, "trackio": trackio}
    for name in sys.argv[1:] or known:
        with tempfile.TemporaryDirectory() as folder, launched() as browser:
            os.chdir(folder)
            Path("tiles.py").write_text(
                script_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8"
            )
            runpy.run_path("tiles.py")
            known[name](browser)


if __name__ == "__main__":
    main()
