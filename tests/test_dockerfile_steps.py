"""The steps of the Dockerfile, run in order in a folder instead of a container: they end with a command that starts.

Left out are those that need the system's administrator or a distribution: packages of apt, and the user of the image.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PLACES = ("/opt/visiongraft", "/source", "/work")  # of the container
ADMINISTRATOR = ("useradd",)

pytestmark = [pytest.mark.exhaustive, pytest.mark.slow]


class Steps:
    """Runs instructions below a folder.

    Args:
        folder: Stands for the root of the container.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
        # Nothing is downloaded: what is installed for the tests satisfies what the package needs.
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "false", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages")),
        }  # fmt: skip

    def moved(self, text: str) -> str:
        for place in PLACES:
            text = text.replace(place, f"{self.folder}{place}")
        return text

    def follow(self, instruction: str) -> None:
        word, _, rest = instruction.partition(" ")
        getattr(self, f"_{word.lower()}", lambda rest: None)(rest)

    def _arg(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self.environment[name] = value

    def _workdir(self, rest: str) -> None:
        self.place = Path(self.moved(rest))
        self.place.mkdir(parents=True, exist_ok=True)

    def _copy(self, rest: str) -> None:
        if rest.startswith("--from="):
            assert Path(self.moved(rest.split()[1])).is_dir()  # stays where it is
            return
        *sources, target = rest.split()
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, self.place / target, ignore=ignored)
            else:
                shutil.copy(path, self.place / target)

    def _run(self, rest: str) -> None:
        if rest.startswith(ADMINISTRATOR):
            return
        self.shell(self.moved(rest))
        made = self.folder / "opt/visiongraft/lib"
        for site in made.glob("python3.*/site-packages"):
            installed = site / "installed.pth"
            installed.write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.place, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def stages(text: str) -> list[list[str]]:
    script = runpy.run_path(str(ROOT / "docs" / "images" / "project_files.py"))
    return [steps for _, _, steps in script["stages_of"](text)]


def test_the_steps_end_with_a_command_that_starts(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    for instruction in [each for stage in stages(TEXT) for each in stage]:
        steps.follow(instruction)
    shutil.rmtree(tmp_path / "source")  # the second stage does not have it
    (entry,) = re.findall(r'^ENTRYPOINT \["(.+)"\]', TEXT, re.MULTILINE)
    del steps.environment["PYTHONPATH"]
    steps.environment["PATH"] = (
        f"{tmp_path}/opt/visiongraft/bin{os.pathsep}{steps.environment['PATH']}"
    )
    assert "Usage:" in steps.shell(f"{entry} --help")
    where = steps.shell("python -c 'import visiongraft; print(visiongraft.__file__)'")
    assert where.startswith(f"{tmp_path}/opt/visiongraft/lib")


def test_a_folder_that_is_not_copied_is_caught(tmp_path: Path) -> None:
    faulty = TEXT.replace("COPY exporters exporters\n", "")
    steps = Steps(tmp_path)
    with pytest.raises(AssertionError, match="exporters"):
        for instruction in stages(faulty)[0]:
            steps.follow(instruction)
