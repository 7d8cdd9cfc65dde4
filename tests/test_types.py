"""Type checkers know the public names: a sound user script passes, and each misuse is an error."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SOUND = """\
from collections.abc import Generator
from pathlib import Path
from typing import Any

import visiongraft as vg


@vg.schedule
def head_then_rest(
    stages: tuple[str, ...], epochs: int
) -> Generator[vg.Phase, list[dict[str, Any]], None]:
    yield vg.Phase(1, "head", 1e-3)
    if epochs > 1:
        yield vg.Phase(epochs - 1, "all", 1e-4)


class Bell:
    name = "bell"

    @vg.hookimpl
    def phase_ended(self, run: vg.Run, receipt: vg.Receipt) -> None:
        print(run.folder, receipt.frozen)


model: vg.TransferModel = vg.fit(
    "flowers", task="classification", epochs=2, schedule=head_then_rest, callbacks=[Bell()]
)
loaded = vg.load(Path("runs/flowers"))
certificate: vg.Certificate = loaded.export("flowers.onnx")
difference: float = certificate.difference
results: dict[str, Any] = loaded.evaluate("flowers/val")
backbone: vg.Backbone = vg.load_backbone("timm/resnet50", weights=None, size=224)
stages: tuple[str, ...] = backbone.stages
try:
    loaded.save("model")
except vg.VisiongraftError as error:
    print(error, vg.errors.OptionError, vg.schedules.full, vg.__version__)
"""
WRONG = """\
import visiongraft as vg

vg.fti("x", epochs=3)
vg.fit("x", epoch=3)
vg.fit("x", epochs="three")
vg.load(3)
"""
ROOT = Path(__file__).parents[1]
# The project's own cache of mypy, which `make types` fills, spares a minute for torch's types.
MYPY = ["mypy", "--no-error-summary", "--config-file", str(ROOT / "pyproject.toml")]
MYPY += ["--cache-dir", str(ROOT / ".mypy_cache")]
CHECKERS = {
    "mypy": MYPY,
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("name", ["mypy", pytest.param("pyright", marks=pytest.mark.exhaustive)])
def test_a_sound_script_passes_and_every_wrong_line_is_an_error(name: str, tmp_path: Path) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed; the extra 'dev' brings it")
    (tmp_path / "sound.py").write_text(SOUND)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", *CHECKERS[name], "sound.py", "wrong.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"(\w+)\.py:(\d+):.*error", done.stdout)
    assert sorted(set(found)) == [("wrong", str(line)) for line in (3, 4, 5, 6)], done.stdout
    assert done.returncode == 1
