from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import visiongraft
from visiongraft.registry.manager import plugins

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = {"core": "visiongraft", "plugins": "visiongraft.plugins"}
SOURCES["exporters"] = "visiongraft.exporters"


def module_name(path: Path) -> str:
    """Return the import name of a file or folder of the checkout."""
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([SOURCES[top], *rest])


def python_files() -> list[Path]:
    return sorted(path for top in SOURCES for path in (ROOT / top).rglob("*.py"))


def test_every_package_folder_is_listed_and_every_listed_one_exists() -> None:
    folders = {module_name(p.parent) for p in python_files() if p.name == "__init__.py"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_every_folder_with_modules_is_a_package() -> None:
    assert {p.parent for p in python_files() if not (p.parent / "__init__.py").exists()} == set()


@pytest.mark.parametrize("name", ["plugins", "exporters"])
def test_nothing_in_core_shadows_the_other_source_folders(name: str) -> None:
    assert not (ROOT / "core" / name).exists()
    assert not (ROOT / "core" / f"{name}.py").exists()


def test_the_version_is_the_installed_ones() -> None:
    assert visiongraft.__version__ == PROJECT["project"]["version"]
    assert metadata.version("visiongraft") == visiongraft.__version__


def test_the_changelog_contains_this_version() -> None:
    assert f"\n## {visiongraft.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_entry_points_are_those_of_the_project_file_and_load() -> None:
    declared = PROJECT["project"]["entry-points"]
    for group, points in declared.items():
        installed = {
            p.name: p
            for p in metadata.entry_points(group=group)
            if p.dist and p.dist.name == "visiongraft"
        }
        assert {name: p.value for name, p in installed.items()} == points
        for point in installed.values():
            assert point.load() is not None


def test_the_declared_names_are_those_that_the_plugins_provide() -> None:
    declared = set(PROJECT["project"]["entry-points"]["visiongraft.names"])
    provided = {
        f"{kind}.{name}"
        for record in plugins().records
        if record.distribution == "visiongraft"
        for kind, names in record.provides.items()
        for name in names
        if name  # a backbone source without a prefix
    }
    assert declared == provided


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "photos", "--task", "nope"],
        ["fit", "photos", "--task", "classification", "--schedule", "nope"],
        ["fit", "photos", "--task", "classification", "--transfer-loss", "nope"],
        ["fit", "photos", "--task", "classification", "--backbone", "nope/resnet50"],
        ["export", "model", "model.onnx", "--format", "nope"],
    ],
    ids=["task", "schedule", "transfer loss", "backbone", "exporter"],
)
def test_a_wrong_name_is_refused_before_torch_is_loaded(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from visiongraft.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'timm', 'torchvision', 'numpy', 'PIL'}; "
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    words = [*words, "--out", str(tmp_path / "run")] if words[0] == "fit" else words
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "2 []"
    assert "nope" in done.stderr and not (tmp_path / "run").exists()


def test_the_package_carries_its_types() -> None:
    assert (Path(visiongraft.__file__).parent / "py.typed").is_file()


HELD_BACK = {"mlflow", "trackio"}  # they need an older Pillow: `make trackers`


def test_constraints_are_plain_versions_and_cover_all_dependencies() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = PROJECT["project"]
    expected = list(project["dependencies"])
    for name, extra in project["optional-dependencies"].items():
        expected += [] if name in HELD_BACK else extra
    names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in expected}
    assert names - pinned == {"onnxruntime"}  # replaces onnxruntime-gpu on other systems


def test_the_makefile_installs_every_extra() -> None:
    extras = re.search(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert extras is not None
    every = set(PROJECT["project"]["optional-dependencies"])
    assert set(extras[1].split(",")) == every - HELD_BACK


def test_the_ci_script_can_be_executed() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
