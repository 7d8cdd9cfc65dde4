"""Versions of installed packages, and of the files that visiongraft writes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

VISIONGRAFT = version("visiongraft")


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed, by name.

    Args:
        packages: Names of distributions, such as ``"torch"``.

    Returns:
        Version by name, in the given order; packages that are not installed are left out.
    """
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe_other_format(path: Path, found: object, expected: int, saved_by: object) -> str:
    """Describe a file that another version of visiongraft saved in a format of its own.

    Args:
        path: The file.
        found: The format that the file states.
        expected: The format that this version reads.
        saved_by: The version that the file states; files of format 1 may lack it.

    Returns:
        One line that names both versions.
    """
    maker = saved_by if isinstance(saved_by, str) else "0.1.0" if found == 1 else "another version"
    maker = maker if maker.startswith("another") else f"visiongraft {maker}"
    return (
        f"{path} was saved by {maker} in format {found}; visiongraft {VISIONGRAFT} reads format "
        f"{expected}; use the version that saved it, or train again"
    )
