"""The model of the server: the network that all sites train with the global values, made without any image."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import NDArray

from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.options import is_number
from visiongraft.plugins.federated.common import (
    asked_of_fit,
    begin_phase,
    frozen_digest,
    state_licenses,
)
from visiongraft.plugins.federated.config import FederatedConfig, FederatedError
from visiongraft.plugins.federated.exchange import Declared
from visiongraft.preparation.arguments import new_settings
from visiongraft.preparation.building import build_network
from visiongraft.preparation.starting import find_start
from visiongraft.privacy import Privacy
from visiongraft.seeds import preserved
from visiongraft.training.private.accounting import noise_origin

log = logging.getLogger("visiongraft")


def server_model(
    config: FederatedConfig,
    declared: Declared,
    values: Mapping[str, NDArray[Any]],
    licenses: Mapping[str, str],
    facts: Mapping[str, Any],
) -> TransferModel:
    """Make the model of the server.

    Args:
        config: The settings.
        declared: What all sites declared.
        values: The global values.
        licenses: Licenses of the images of all sites that took part, which the model states.
        facts: What the model states about its training.

    Returns:
        The model, in evaluation mode. Options that a task sets after training by its validation images are at their
        defaults.

    Raises:
        FederatedError: Tensors stay at the sites, or those that do not train are not those of the sites.
        VisiongraftError: The network cannot be built here.
    """
    if config.personal:
        raise FederatedError(
            f"personal={list(config.personal)} stays at the sites, whose models have it"
        )
    network = _network(config, declared)
    if frozen_digest(network) != declared.frozen:
        raise FederatedError(
            "the tensors that do not train are others here than at the sites: their weights are not those of the server"
        )
    state = network.state_dict()
    for name, array in values.items():
        state[name].copy_(torch.from_numpy(array))
    state_licenses(network, licenses)
    network.held_in_eval = ()
    network.eval()
    return TransferModel(network, dict(facts))


def _network(config: FederatedConfig, declared: Declared) -> Network:
    """Build the network as sites do, for the task that they declared."""
    task = {"task": declared.task_name, "task_options": declared.task_options, "augment": None}
    asked = asked_of_fit(config, data=None, device="cpu", **task)
    settings, unbound, schedule = new_settings(asked, find_start(asked))
    with TemporaryDirectory(prefix="visiongraft-server-") as scratch, preserved():
        network = build_network(settings, unbound, Path(scratch)).network
    begin_phase(network, schedule, settings)
    return network


def facts_of(
    config: FederatedConfig, rounds: list[dict[str, Any]], mean: Mapping[str, float], tensors: int
) -> dict[str, Any]:
    """Return what the server's model states about its training.

    Args:
        config: The settings.
        rounds: The records of all rounds.
        mean: Final metrics, averaged over the validation images of the sites.
        tensors: Number of tensors that travelled.
    """
    images = {site: count for record in rounds for site, count in record["sites"].items()}
    settings = {k: v for k, v in asdict(config).items() if k not in ("fit", "sites", "licenses")}
    return {
        "data": {"sites": len(images), "training images": sum(images.values())},
        **_privacy(config, rounds),
        "federated": {**settings, "tensors that travelled": tensors},
        "training": {"schedule": str(config.fit.get("schedule", "")), "rounds": len(rounds)},
        "metrics": dict(mean),
    }


def _privacy(config: FederatedConfig, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest budget that a site states to have spent; nothing unless all of them state one."""
    asked = Privacy.read(config.fit.get("privacy"))
    if asked is None:
        return {}
    spent = []
    for record in rounds:
        for site in record["sites"]:
            epsilon = record["metrics"].get(site, {}).get("epsilon")
            if not is_number(epsilon):
                log.warning(
                    "the model of the server states no privacy: site %r sent no epsilon in round %d",
                    site,
                    record["round"] + 1,
                )
                return {}
            spent.append(epsilon)
    return {
        "privacy": {
            "epsilon": max(spent),
            "delta": asked.delta,
            "protects": "each training image of every site, as the sites state",
            "mechanism": "DP-SGD with Poisson sampling at each site",
            "accountant": asked.accountant,
            "max_grad_norm": asked.max_grad_norm,
            "noise": noise_origin(asked),
        }
    }
