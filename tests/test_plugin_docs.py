"""Runs every block of the pages on writing plugins, from top to bottom.

A ``python`` block is executed. A block with a title is a file; blocks of one title follow each
other in it. In a ``console`` block each ``$`` is a command, and the lines after it are what it
prints, where ``...`` stands for anything. What cannot run here is a ``text`` or ``toml`` block.
The folder of a page holds ``flowers/train`` and ``flowers/val`` with three labels.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from visiongraft.cli import main
from visiongraft.hookspecs import RegistrationHooks
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import (
    ADAPTER_CHECKS,
    BACKBONE_CHECKS,
    EXPORTER_CHECKS,
    READER_CHECKS,
    SCHEDULE_CHECKS,
    SCORER_CHECKS,
    SECTION_CHECKS,
    TASK_CHECKS,
    TEXT_ENCODER_CHECKS,
    TRANSFER_LOSS_CHECKS,
)
from visiongraft.testing.report import Check

FOLDER = Path(__file__).parents[1] / "docs" / "plugins"
PAGES = sorted(FOLDER.glob("*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Page:
    """Runs one page in the current folder; ``checks`` are the commands that run a whole kit."""

    def __init__(self, path: Path, *, checks: bool = True) -> None:
        self.path, self.checks = path, checks
        self.module = types.ModuleType("plugin_page")
        self.files: set[str] = set()

    def run(self) -> None:
        text = self.path.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            language, title, content = match.groups()
            if title is not None:
                self.write(title, content)
            elif language == "python":
                lines = "\n" * text.count("\n", 0, match.start(3))  # tracebacks name the page's
                exec(compile(lines + content, str(self.path), "exec"), self.module.__dict__)  # noqa: S102
            elif language == "console":
                self.type(content)
            else:
                assert language in ("text", "toml"), f"a block of {language} is not run"

    def write(self, title: str, content: str) -> None:
        with open(title, "a" if title in self.files else "w", encoding="utf-8") as file:
            file.write(content)
        self.files.add(title)

    def type(self, content: str) -> None:
        commands = re.split(r"^\$ ", content, flags=re.MULTILINE)
        assert commands[0] == "", "a console block begins with a command"
        for command in commands[1:]:
            line, _, expected = command.partition("\n")
            if line.startswith("visiongraft check-plugin") and not self.checks:
                continue
            printed = command_output(line)
            parts = [re.escape(part) for part in expected.strip().split("...")]
            pattern = r"\s*" + ".*".join(parts) + r"\s*"
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{line} printed:\n{printed}"


def command_output(line: str) -> str:
    """Run one command, ours in this process, and return its standard output."""
    words = shlex.split(line)
    if words[0] == "cd":
        os.chdir(words[1])
        return ""
    if words[0] != "visiongraft":
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return done.stdout
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words[1:])
    assert code == 0, f"{line} exited with {code}:\n{out.getvalue()}{err.getvalue()}"
    return out.getvalue()


@pytest.fixture(scope="session")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut three real photographs into images."""
    folder = tmp_path_factory.mktemp("flowers")
    generator = np.random.default_rng(0)
    sources = {"daisy": data.chelsea(), "rose": data.coffee(), "tulip": data.astronaut()}
    for label, photo in sources.items():
        for part, count in (("train", 12), ("val", 4)):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                top, left = (int(generator.integers(0, n - 64)) for n in photo.shape[:2])
                cut = Image.fromarray(photo[top : top + 64, left : left + 64])
                cut.save(folder / part / label / f"{number}.jpg")
    return folder


@pytest.fixture
def page(
    request: pytest.FixtureRequest,
    flowers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Page]:
    """Run a page in its own folder, and forget what it imports and registers."""
    (tmp_path / "flowers").symlink_to(flowers)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = list(sys.path)
    page = Page(request.param, checks="unchecked" not in request.node.callspec.id)
    sys.modules[page.module.__name__] = page.module
    with using(PluginManager()):
        yield page
    sys.path[:] = path
    del sys.modules[page.module.__name__]
    for title in page.files:
        sys.modules.pop(Path(title).stem, None)


WHOLE_KIT = ("checks", "write-a-backbone", "write-a-schedule", "write-a-task", "write-an-exporter")


def cases() -> Iterator[Any]:
    """Mark the pages that run a whole kit; the longest is tried every time, but for its kit."""
    for path in PAGES:
        mark = pytest.mark.exhaustive if path.stem in WHOLE_KIT else pytest.mark.slow
        yield pytest.param(path, id=path.stem, marks=mark)
        if path.stem == "write-a-task":
            yield pytest.param(path, id=f"{path.stem}-unchecked", marks=pytest.mark.slow)


@pytest.mark.parametrize("page", list(cases()), indirect=True)
def test_the_page_works_from_top_to_bottom(page: Page) -> None:
    page.run()


def faulty_page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return Page(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nassert 1 == 2, 'not so'\n```\n", "not so"),
        ("```console\n$ echo yes\nno\n```\n", "echo yes printed"),
        ("```console\n$ echo yes\n...no\n```\n", "echo yes printed"),
        ("```console\n$ visiongraft tasks --no-plugin nothing\n```\n", "exited with 2"),
        ("```sh\necho\n```\n", "a block of sh is not run"),
    ],
)
def test_a_page_with_a_fault_is_caught(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=re.escape(message)):
        faulty_page(tmp_path, text).run()


def test_blocks_of_one_title_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = '```python title="a.py"\nx = 1\n```\n'
    faulty_page(tmp_path, block + "text\n\n" + block).run()
    assert (tmp_path / "a.py").read_text() == "x = 1\nx = 1\n"


@pytest.mark.parametrize(
    "check",
    [
        *ADAPTER_CHECKS,
        *TASK_CHECKS,
        *BACKBONE_CHECKS,
        *SCHEDULE_CHECKS,
        *SCORER_CHECKS,
        *SECTION_CHECKS,
        *TEXT_ENCODER_CHECKS,
        *EXPORTER_CHECKS,
        *READER_CHECKS,
        *TRANSFER_LOSS_CHECKS,
    ],
    ids=lambda check: check.name,
)
def test_every_check_is_explained_in_its_own_words(check: Check) -> None:
    assert f"| `{check.name}` | {check.says} |" in (FOLDER / "checks.md").read_text("utf-8")


@pytest.mark.parametrize("hook", [name for name in vars(RegistrationHooks) if name[0] != "_"])
def test_every_registration_hook_is_shown_in_code(hook: str) -> None:
    blocks = "".join(m[3] for page in PAGES for m in BLOCK.finditer(page.read_text("utf-8")))
    assert f"@hookimpl\ndef {hook}():" in blocks or f"@vg.hookimpl\ndef {hook}():" in blocks
