"""A new plugin package installs into a fresh environment, where its own tests pass."""

from __future__ import annotations

import json
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visiongraft.cli import main
from visiongraft.errors import OptionError
from visiongraft.hookspecs import API_VERSION
from visiongraft.scaffold import new_plugin
from visiongraft.scaffold.templates import FILES


def test_every_file_is_written_and_no_word_is_left_open(tmp_path: Path) -> None:
    files = new_plugin("leaf-age", tmp_path / "new")
    assert len(files) == len(FILES) == len({*files})
    assert [
        f
        for f in files
        if "@"
        in f.read_text().replace("@dataclass", "").replace("@hookimpl", "").replace("@pytest", "")
    ] == []
    project = tomllib.loads((tmp_path / "new" / "pyproject.toml").read_text())
    assert project["project"]["name"] == "visiongraft-leaf-age"
    assert project["project"]["entry-points"]["visiongraft"] == {"leaf_age": "visiongraft_leaf_age"}
    code = (tmp_path / "new" / "src" / "visiongraft_leaf_age" / "task.py").read_text()
    assert "class LeafAge(Task):" in code
    assert 'name = "leaf_age"' in code


def test_the_task_is_under_60_lines_and_declares_this_api_version(tmp_path: Path) -> None:
    new_plugin("ripeness", tmp_path)
    folder = tmp_path / "src" / "visiongraft_ripeness"
    assert len((folder / "task.py").read_text().splitlines()) < 60
    version = ".".join(map(str, API_VERSION))
    assert f'visiongraft_api = "{version}"' in (folder / "__init__.py").read_text()


def test_the_package_is_clean_code(tmp_path: Path) -> None:
    new_plugin("ripeness", tmp_path)
    for command in (["check", "--select", "B,E,F,I,UP"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "100", "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is not a valid task name"),
        ("Age", "is not a valid task name"),
        ("2d", "is not a valid task name"),
        ("../x", "is not a valid task name"),
        ("visiongraft-", "is not a valid task name"),
        ("class", "is not a valid task name"),
        ("toy", "task 'toy' already exists"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        new_plugin(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@given(st.text(max_size=12))
def test_a_name_is_refused_or_becomes_a_module_and_a_distribution(name: str) -> None:
    from visiongraft.scaffold import _task_name

    try:
        task = _task_name(name)
    except OptionError:
        return
    assert f"visiongraft_{task}".isidentifier()
    assert task == task.lower()
    assert task.isascii()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OptionError, match="already exists; choose another folder with --out"):
        new_plugin("ripeness", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command_writes_a_package_and_prints_the_next_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "visiongraft-ripeness"]) == 0
    assert "cd visiongraft-ripeness && pip install" in capsys.readouterr().out
    assert (tmp_path / "visiongraft-ripeness" / "pyproject.toml").is_file()
    assert main(["new-plugin", "ripeness", "--out", "else where", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["folder"] == "else where"
    assert len(values["files"]) == len(FILES)
    assert main(["new-plugin", "ripeness"]) == 2


@pytest.mark.exhaustive
def test_the_package_installs_afresh_and_passes_its_own_tests(tmp_path: Path) -> None:
    new_plugin("ripeness", tmp_path / "package")
    venv.create(tmp_path / "venv", symlinks=True)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # The environment is new; what visiongraft needs comes from here instead of an index.
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "shared.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    python = tmp_path / "venv" / "bin" / "python"
    install = ["pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--no-build-isolation", str(tmp_path / "package")]
    subprocess.run([sys.executable, "-m", *install], check=True)
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "package")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " failed" not in done.stdout
