"""An environment with Flower beside this one, whose packages contradict those of Flower.

It is made once and kept in the user's cache folder: Flower and what it needs come first on its path, and
then all that is installed here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

FLOWER = "flwr==1.42.0"


def flower_environment() -> Path:
    """Return the folder of the environment's programs; it is made if it is not there yet."""
    paths = [path for path in sys.path if path.endswith("site-packages")]
    key = hashlib.sha256(json.dumps([FLOWER, sys.version, paths]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "visiongraft-flower" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{key}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not (folder / "ready").is_file():
            _make(folder, paths)
    return folder / "bin"


def _make(folder: Path, paths: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", FLOWER]
    subprocess.run(command, check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in paths]  # with their .pth files
    (site / "zz_base.pth").write_text("".join(lines))
    (folder / "ready").write_text(FLOWER)


if __name__ == "__main__":
    print(flower_environment())
