"""Versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


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
