"""Federated training on one machine: the sites train one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.plugins.federated.server import Hello, Reply, run_rounds
from visiongraft.plugins.federated.site import Site
from visiongraft.training.execution.launchers import read_launch

Answered = TypeVar("Answered")


def simulate(config: FederatedConfig, out: str | Path, resume: bool = False) -> dict[str, Any]:
    """Simulate federated training.

    Equal settings end with identical tensors, also if the simulation was stopped and resumed.

    Args:
        config: The settings, with ``sites``.
        out: Folder to write: the state of the server, ``rounds.json``, ``result.json`` and
            ``sites/NAME/model``, the final model of each site.
        resume: Go on after the last finished round.

    Returns:
        What ``result.json`` contains: ``rounds``, final ``metrics`` by site, their weighted ``mean``,
        ``tensors`` that travelled, ``bytes`` that were sent, and ``licenses`` of the images of all sites.

    Raises:
        VisiongraftError: A setting is invalid, or too few sites took part.
    """
    if not config.sites:
        raise OptionError("a simulation needs sites: datasets by name")
    if (processes := read_launch().processes) > 1:
        raise OptionError(
            f"a simulation trains its sites one after the other in one process, and there are {processes}; start one"
        )
    if config.secure_aggregation:
        raise OptionError(
            "secure_aggregation hides updates from a server, and a simulation has none; omit it, or write a Flower app"
        )
    local = LocalSites(config, Path(out))
    try:
        return run_rounds(config, Path(out), local, resume)
    finally:
        local.close()


@dataclass
class LocalSites:
    """Sites in this process."""

    config: FederatedConfig
    folder: Path
    sites: dict[str, Site] = field(default_factory=dict)

    def hello(self) -> tuple[dict[str, Hello], dict[str, str]]:
        """Prepare all sites."""

        def prepare(name: str) -> Hello:
            data = self.config.sites[name]
            folder, license = self.folder / "sites" / name, self.config.licenses.get(name)
            site = Site(name, data, self.config, folder, license)
            self.sites[name] = site
            return Hello(site.declared, len(site.run.training), site.values(), site.license)

        return _each(sorted(self.config.sites), prepare)

    def train(
        self, sites: Sequence[str], payload: Mapping[str, bytes], number: int
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        """Let sites train one after the other."""

        def train(name: str) -> Reply:
            done = self.sites[name].train(payload, number)
            return Reply(done.payload, done.images, done.metrics, done.frozen)

        return _each(sites, train)

    def finish(
        self, sites: Sequence[str], payload: Mapping[str, bytes], licenses: Mapping[str, str]
    ) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """Let all sites save their model."""
        return _each(sites, lambda name: self.sites[name].finish(payload, licenses))

    def close(self) -> None:
        """Remove temporary files."""
        for site in self.sites.values():
            site.close()


def _each(
    names: Sequence[str], act: Callable[[str], Answered]
) -> tuple[dict[str, Answered], dict[str, str]]:
    """Let each site act, and note the errors of those that cannot."""
    done, failed = {}, {}
    for name in names:
        try:
            done[name] = act(name)
        except VisiongraftError as error:
            failed[name] = str(error)
    return done, failed
