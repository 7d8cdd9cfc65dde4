"""Run every ``python`` block of the README and of the documentation.

The blocks of one page run in order, in one namespace, in a folder of their own that contains::

    flowers/train/{daisy,rose,tulip}/0.jpg ...    twelve small photos each
    flowers/val/{daisy,rose,tulip}/0.jpg ...      four each
    a.jpg, b.jpg                                  two more photos

Code that cannot run there belongs into a ``text`` or ``console`` block.
"""

from __future__ import annotations

import re
import runpy
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from visiongraft.hookspecs import RegistrationHooks, RunHooks
from visiongraft.registry.manager import PluginManager, using

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "docs" / "plugins"  # run by test_plugin_docs.py
PAGES = [ROOT / "README.md", *sorted(set((ROOT / "docs").rglob("*.md")) - set(PLUGINS.iterdir()))]
# These train or export for ten seconds and more; other pages show the same functions and commands.
EXHAUSTIVE = {
    "advice",
    "detection",
    "face-embedding",
    "index",
    "onnx-deployment",
    "plugins",
    "privacy",
    "rates-and-budgets",
    "segmentation",
}
SOURCE_PATH = re.compile(r"`((?:core|exporters|plugins|tests|docs)/[\w./-]*)`")
BLOCK = re.compile(r"^( *)```python[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> list[tuple[int, str]]:
    """Return the blocks of a page, each with the number of its first line."""
    return [
        (text.count("\n", 0, match.start(2)) + 1, textwrap.dedent(match[2]))
        for match in BLOCK.finditer(text)
    ]


def run_page(path: Path) -> None:
    """Run the blocks of one page as one module; tracebacks show the page's own lines."""
    module = types.ModuleType("documentation_page")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        for line, code in blocks_of(path.read_text(encoding="utf-8")):
            padded = "\n" * (line - 1) + code
            exec(compile(padded, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    finally:
        del sys.modules[module.__name__]


def crop(photo: np.ndarray, generator: np.random.Generator, side: int = 96) -> Image.Image:
    top, left = (int(generator.integers(0, n - side)) for n in photo.shape[:2])
    return Image.fromarray(photo[top : top + side, left : left + side])


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the images once: crops of three real photographs."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    sources = {"daisy": data.chelsea(), "rose": data.coffee(), "tulip": data.astronaut()}
    for name, photo in sources.items():
        for split, count in (("train", 12), ("val", 4)):
            (folder / "flowers" / split / name).mkdir(parents=True)
            for number in range(count):
                crop(photo, generator).save(folder / "flowers" / split / name / f"{number}.jpg")
    crop(sources["daisy"], generator).save(folder / "a.jpg")
    crop(sources["rose"], generator).save(folder / "b.jpg")
    return folder


@pytest.fixture
def page_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run a page in its own folder, and forget the plugins that it registers."""
    for entry in photos.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    with using(PluginManager()):
        yield tmp_path


def test_the_pages_of_the_exhaustive_run_exist() -> None:
    assert {page.stem for page in PAGES} >= EXHAUSTIVE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_on_the_page_is_python(page: Path) -> None:
    for _, code in blocks_of(page.read_text(encoding="utf-8")):
        compile(code, str(page), "exec", dont_inherit=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.stem,
            marks=[pytest.mark.exhaustive] if page.stem in EXHAUSTIVE else [],
        )
        for page in PAGES
    ],
)
def test_the_code_on_the_page_runs(page: Path, page_folder: Path) -> None:
    run_page(page)


def test_a_page_with_a_fault_is_caught_and_names_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n```\n\n- item\n\n  ```python\n  x / 0\n  ```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno + 1 == 10


def test_the_readme_shows_the_python_interface() -> None:
    assert blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("hooks", [RegistrationHooks, RunHooks], ids=lambda hooks: hooks.__name__)
def test_every_hook_is_documented(hooks: type) -> None:
    pages = [ROOT / "docs" / "plugins.md", *PLUGINS.glob("*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    names = [name for name in vars(hooks) if not name.startswith("_")]
    assert [name for name in names if f"`{name}" not in text] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    named = SOURCE_PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_data_flow_is_drawn_by_its_script() -> None:
    images = ROOT / "docs" / "images"
    script = runpy.run_path(str(images / "data_flow.py"))
    assert (images / "data-flow.svg").read_text(encoding="utf-8") == script["drawing"]()
