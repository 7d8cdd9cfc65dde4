"""Run the notebooks of this folder, and keep what they print and draw.

    python docs/tutorials/run.py [NAME ...]

Each notebook runs in a folder of its own, which is empty before and removed afterwards, in a kernel of this interpreter.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def notebooks() -> list[Path]:
    """Return the notebooks, by name."""
    return sorted(HERE.glob("*.ipynb"))


def run(path: Path, folder: Path) -> Any:
    """Run a notebook from the first to the last cell.

    Args:
        path: The notebook, which stays as it is.
        folder: Where its cells run.

    Returns:
        The notebook with the outputs of all cells.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raises an error; the message contains it.
    """
    notebook = nbformat.read(path, as_version=4)
    # Commands of this environment come first in lines that begin with an exclamation mark.
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    # One thread: what is printed is then the same on machines with more of them.
    environment = os.environ | {
        "PATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "100",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # it names the folder of tqdm
        "VISIONGRAFT_CACHE": str(folder / ".cache"),
    }
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    return client.execute(env=environment)


def main() -> None:
    """Run the notebooks that are named, or all."""
    for path in notebooks():
        if sys.argv[1:] and path.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = run(path, Path(folder))
        done.metadata.pop("language_info", None)  # it names the version of Python
        for output in (output for cell in done.cells for output in cell.get("outputs", ())):
            if "image/jpeg" in output.get("data", {}):
                output["data"].pop("image/png", None)  # the same image, five times as large
        nbformat.write(done, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
