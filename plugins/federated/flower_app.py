"""Writes the folder that Flower runs: an app of server and sites with the settings in it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from visiongraft.errors import OptionError
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.saving.files import write_bytes

PACKAGE = "visiongraft_sites"

PYPROJECT = f"""\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{PACKAGE.replace("_", "-")}"
version = "1.0.0"
description = "Federated training with visiongraft"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "visiongraft"

[tool.flwr.app.components]
serverapp = "{PACKAGE}.apps:server"
clientapp = "{PACKAGE}.apps:client"

[tool.flwr.app.config]
out = "federated"
resume = false
"""

APPS = '''\
"""The apps of server and sites."""

import json

from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.plugins.federated.flower import make_client_app, make_server_app

CONFIG = FederatedConfig.of(json.loads({settings!r}))
server = make_server_app(CONFIG)
client = make_client_app(CONFIG)
'''


def write_app(config: FederatedConfig, out: str | Path) -> Path:
    """Write a Flower app.

    Args:
        config: The settings; ``sites`` are left out, since real sites name their own data.
        out: Folder to write.

    Returns:
        The folder, for ``flwr run``.

    Raises:
        OptionError: The folder exists and has something in it.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise OptionError(f"{folder} is not empty; choose another folder")
    settings = json.dumps({**asdict(config), "sites": {}, "licenses": {}}, sort_keys=True)
    (folder / PACKAGE).mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "pyproject.toml", PYPROJECT.encode())
    write_bytes(folder / PACKAGE / "__init__.py", b"")
    write_bytes(folder / PACKAGE / "apps.py", APPS.format(settings=settings).encode())
    return folder
