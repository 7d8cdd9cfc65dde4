"""The server: it chooses sites, combines what they send, and can go on from its last round."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visiongraft.backbone import DATA_LICENSE, UNKNOWN, license_warning
from visiongraft.errors import ArtifactError, VisiongraftError, name_some
from visiongraft.options import is_integer
from visiongraft.plugins.federated.aggregation import Moments, Update
from visiongraft.plugins.federated.config import FederatedConfig, FederatedError
from visiongraft.plugins.federated.exchange import Declared, decode, encode, size
from visiongraft.plugins.federated.server_model import facts_of, server_model
from visiongraft.saving.files import write_json
from visiongraft.saving.tensor_files import read_tensors, write_tensors
from visiongraft.seeds import mix_seed

log = logging.getLogger("visiongraft")

STATE = "state.safetensors"
MODEL = "model"  # folder of the server's model
FORMAT = 3


@dataclass(frozen=True)
class Hello:
    """What a site says about itself before the first round.

    Attributes:
        declared: The tensors that travel.
        images: Number of its training images.
        values: Their values before any training.
        license: License of its images; ``"unknown"`` if none is stated.
    """

    declared: Declared
    images: int
    values: Mapping[str, bytes]
    license: str = UNKNOWN


@dataclass(frozen=True)
class Reply:
    """What a site sends in a round.

    Attributes:
        payload: The tensors.
        images: Number of its training images.
        metrics: Of its own validation images after its training.
        frozen: Digest of what its receipts show to be unchanged.
        sent: Bytes of the tensors as they travelled, if not those of ``payload``.
    """

    payload: Mapping[str, bytes]
    images: int
    metrics: Mapping[str, float]
    frozen: str
    sent: int | None = None

    @property
    def bytes_sent(self) -> int:
        """Bytes of the tensors as they travelled."""
        return size(self.payload) if self.sent is None else self.sent


class Transport(Protocol):
    """How the server reaches the sites; failures are one line each by name of the site."""

    def hello(self) -> tuple[dict[str, Hello], dict[str, str]]:
        """Ask all sites what they declare."""

    def train(
        self, sites: Sequence[str], payload: Mapping[str, bytes], number: int
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        """Let sites train."""

    def finish(
        self, sites: Sequence[str], payload: Mapping[str, bytes], licenses: Mapping[str, str]
    ) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """Let sites measure and save the final model."""


@dataclass
class Server:
    """The state of the server.

    Attributes:
        config: The settings.
        folder: Where the state, the record of rounds and the final tensors are written.
        declared: What travels.
        values: The global values.
        moments: Of methods that have any.
        rounds: One record per finished round.
        images: Number of training images by site, as each declared when it first took part.
        stated: License of the images by site, likewise.
    """

    config: FederatedConfig
    folder: Path
    declared: Declared
    values: dict[str, NDArray[np.float32]]
    moments: Moments = field(default_factory=dict)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    stated: dict[str, str] = field(default_factory=dict)

    def changed(self, hellos: Mapping[str, Hello]) -> dict[str, str]:
        """Return the sites that declare other images or another license than before, and how these differ."""
        found = {}
        for site, hello in hellos.items():
            images, license = self.images.get(site), self.stated.get(site, UNKNOWN)
            if images not in (None, hello.images):
                found[site] = f"it has {hello.images} training images, and had {images} before"
            elif license not in (UNKNOWN, hello.license):
                found[site] = (
                    f"its images have the license {hello.license!r}, and had {license!r} before"
                )
        return found

    def admit(self, hellos: Mapping[str, Hello]) -> None:
        """Keep what sites declare, also for rounds in which they are absent."""
        self.images |= {site: hello.images for site, hello in hellos.items()}
        self.stated |= {site: hello.license for site, hello in hellos.items()}

    def choose(self, sites: Sequence[str]) -> list[str]:
        """Choose the sites of the next round, at random."""
        count = max(self.config.least_sites, round(self.config.fraction * len(sites)))
        seed = mix_seed(self.config.seed, "sites", len(self.rounds))
        order = np.random.default_rng(seed).permutation(sorted(sites))
        return sorted(map(str, order[:count]))

    def take(
        self, chosen: Sequence[str], replies: Mapping[str, Reply], failures: Mapping[str, str]
    ) -> dict[str, Any]:
        """Combine the replies of a round, without those that are not as declared.

        Args:
            chosen: The sites that were asked.
            replies: By name of the site.
            failures: What sites failed with.

        Returns:
            The record of the round.

        Raises:
            FederatedError: Fewer sites than ``least_sites`` sent what they should.
        """
        failed = dict(failures)
        updates = []
        for site in sorted(replies):
            try:
                updates.append(self._checked(site, replies[site]))
            except VisiongraftError as error:
                failed[site] = f"refused: {error}"
                if self.config.secure_aggregation:
                    raise FederatedError(
                        f"round {len(self.rounds) + 1}: site {site!r}: {error}; its update cannot be taken out of the sum; the "
                        "state is kept, so that it can be resumed without this site"
                    ) from error
        for site in chosen:
            if site not in replies and site not in failed:
                failed[site] = "no reply"
        if len(updates) < self.config.least_sites:
            raise FederatedError(
                f"round {len(self.rounds) + 1}: {_sites(len(updates))} sent an update and least_sites is "
                f"{self.config.least_sites} ({_reasons(failed)}); the state is kept, so that it can be resumed"
            )
        for site, reason in sorted(failed.items()):
            log.warning("round %d: site %r: %s", len(self.rounds) + 1, site, reason)
        sent = size(encode(self.values))
        self.values = self.config.aggregation.combine(
            self.values, updates, self.moments, self.declared.buffers
        )
        record = {
            "round": len(self.rounds),
            "sites": {u.site: u.images for u in updates},
            "failed": failed,
            "bytes_to_sites": sent * len(chosen),
            "bytes_from_sites": sum(replies[u.site].bytes_sent for u in updates),
            "metrics": {u.site: dict(replies[u.site].metrics) for u in updates},
        }
        self.rounds.append(record)
        return record

    def _checked(self, site: str, reply: Reply) -> Update:
        values = decode(reply.payload, self.declared)
        if reply.frozen != self.declared.frozen:
            raise FederatedError(
                "its receipts show other frozen tensors than those of the other sites"
            )
        if not is_integer(reply.images) or reply.images < 1:
            raise FederatedError(f"it claims to have {reply.images!r} images")
        if reply.images != (before := self.images.get(site, reply.images)):
            raise FederatedError(
                f"it claims to have {reply.images} images, and had {before} before"
            )
        return Update(site, reply.images, values)

    def licenses(self) -> dict[str, str]:
        """Return the licenses of the images of all sites whose updates are in the global values."""
        sites = sorted({site for record in self.rounds for site in record["sites"]})
        return {site: self.stated[site] for site in sites}

    def write(self) -> None:
        """Write the state atomically, and the record of the rounds."""
        arrays = {f"values:{n}": torch.from_numpy(a) for n, a in self.values.items()}
        arrays |= {f"moments:{n}": torch.from_numpy(a) for n, a in self.moments.items()}
        about = {
            "format": FORMAT,
            "config": asdict(self.config),
            "declared": self.declared.to_json(),
            "rounds": self.rounds,
            "images": self.images,
            "licenses": self.stated,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self.folder / STATE, arrays, about)
        write_json(self.folder / "rounds.json", self.rounds)

    @classmethod
    def resumed(cls, config: FederatedConfig, folder: Path) -> Server:
        """Read the state of a server that was stopped.

        Raises:
            ArtifactError: There is none, it is damaged, or has other settings.
        """
        arrays, about = read_tensors(folder / STATE)
        if about.get("format") != FORMAT:
            raise ArtifactError(
                f"{folder / STATE} is not the state of a server, or one of another version of visiongraft"
            )
        now, before = (json.loads(json.dumps(c)) for c in (asdict(config), about["config"]))
        other = [
            n for n in now if n not in ("rounds", "timeout") and now[n] != before.get(n, now[n])
        ]
        if other:
            raise ArtifactError(
                f"{folder} has other settings: {name_some(other)}; restore them, or choose another folder"
            )
        groups: dict[str, dict[str, Any]] = {"values": {}, "moments": {}}
        for key, tensor in arrays.items():
            group, _, name = key.partition(":")
            groups[group][name] = tensor.numpy()
        declared = Declared.of(about["declared"])
        kept = (about["rounds"], about["images"], about["licenses"])
        return cls(config, folder, declared, groups["values"], groups["moments"], *kept)


def begin(config: FederatedConfig, folder: Path, hellos: Mapping[str, Hello]) -> Server:
    """Make the server of a new training from what sites declare.

    Args:
        config: The settings.
        folder: Where to write.
        hellos: What the sites declare, by name.

    Raises:
        FederatedError: Sites declare different tensors.
    """
    first = min(hellos)
    declared = hellos[first].declared
    for site in sorted(hellos):
        difference = declared.difference(hellos[site].declared)
        if difference:
            raise FederatedError(
                f"sites {first!r} and {site!r} do not train the same model: {difference}; give all of "
                "them the same settings, class_names and weights"
            )
    try:
        values = decode(hellos[first].values, declared)
    except VisiongraftError as error:
        raise FederatedError(f"site {first!r} sent no values to begin with: {error}") from error
    return Server(config, folder, declared, values)


def run_rounds(
    config: FederatedConfig, folder: Path, transport: Transport, resume: bool = False
) -> dict[str, Any]:
    """Run all rounds that are left, and let the sites save the final model.

    Args:
        config: The settings.
        folder: Where the state is written, after each round.
        transport: Reaches the sites.
        resume: Go on from the state in the folder.

    Returns:
        JSON values: ``rounds``, the final ``metrics`` by site, ``tensors``, ``bytes``, the ``licenses`` of the images
        of all sites that sent an update, and ``model``, the folder of the server's model.

    Raises:
        FederatedError: Too few sites took part.
    """
    if not resume and (folder / STATE).exists():
        raise FederatedError(f"{folder} contains a training; resume it, or choose another folder")
    hellos, absent = transport.hello()
    before = Server.resumed(config, folder) if resume else None
    if before is not None:
        changed = before.changed(hellos)
        hellos = {site: hello for site, hello in hellos.items() if site not in changed}
        absent = {**absent, **changed}
    if len(hellos) < config.least_sites:
        reasons = f" ({_reasons(absent)})" if absent else ""
        raise FederatedError(
            f"{_sites(len(hellos))} can train, and least_sites is {config.least_sites}{reasons}"
        )
    for site, reason in sorted(absent.items()):
        log.warning("site %r does not take part: %s", site, reason)
    for site, hello in sorted(hellos.items()):
        for line in license_warning("", {"license": "", DATA_LICENSE: hello.license}):
            log.warning("site %r: %s", site, line)
    server = begin(config, folder, hellos)
    if before is not None:
        if difference := before.declared.difference(server.declared):
            raise FederatedError(f"sites train another model than before: {difference}")
        server = before
    server.admit(hellos)
    server.write()
    while len(server.rounds) < config.rounds:
        started = time.monotonic()
        chosen = server.choose(list(hellos))
        replies, failures = transport.train(chosen, encode(server.values), len(server.rounds))
        record = server.take(chosen, replies, failures)
        server.write()
        log.info(
            "round %d of %d: %d of %d sites in %.0f s",
            record["round"] + 1,
            config.rounds,
            len(record["sites"]),
            len(chosen),
            time.monotonic() - started,
        )
    licenses = server.licenses()
    metrics, failures = transport.finish(sorted(hellos), encode(server.values), licenses)
    for site, reason in sorted(failures.items()):
        log.warning("site %r has no final model: %s", site, reason)
    totals = [r["bytes_to_sites"] + r["bytes_from_sites"] for r in server.rounds]
    mean = _mean(metrics)
    summary = {
        "rounds": server.rounds,
        "metrics": metrics,
        "mean": mean,
        **_saved_model(server, licenses, mean),
        "tensors": len(server.declared.shapes),
        "numbers": server.declared.numbers,
        "bytes": sum(totals),
        "licenses": licenses,
        "failed": {**absent, **failures},
    }
    write_json(folder / "result.json", summary)
    return summary


def _saved_model(
    server: Server, licenses: Mapping[str, str], mean: Mapping[str, float]
) -> dict[str, Any]:
    """Save the model of the server, and return its folder, or why there is none."""
    facts = facts_of(server.config, server.rounds, mean, len(server.declared.shapes))
    try:
        model = server_model(server.config, server.declared, server.values, licenses, facts)
        model.save(server.folder / MODEL)
    except VisiongraftError as error:
        log.warning("the server has no model of its own: %s", error)
        return {"model": None, "without_model": str(error)}
    return {"model": MODEL}


def _reasons(failures: Mapping[str, str]) -> str:
    """Say why sites failed, each reason once."""
    sites: dict[str, list[str]] = {}
    for site, reason in sorted(failures.items()):
        sites.setdefault(reason, []).append(site)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in sites.items())


def _sites(count: int) -> str:
    return "1 site" if count == 1 else f"{count} sites"


def _mean(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Average the metrics of the sites by their numbers of validation images."""
    total = sum(m["images"] for m in metrics.values())
    names = set.intersection(*(set(m) for m in metrics.values())) - {"images"} if metrics else set()
    return {n: sum(m[n] * m["images"] for m in metrics.values()) / total for n in sorted(names)}
