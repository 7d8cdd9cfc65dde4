"""What sites and server do alike: settings of a site, the phase that trains, digests, licenses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from visiongraft.backbone import DATA_LICENSE, UNKNOWN
from visiongraft.config import FitConfig, fit_defaults
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.preparation.arguments import with_task_augmentation
from visiongraft.schedules import Phase, Schedule
from visiongraft.training.freezing import digest, frozen_tensors
from visiongraft.training.private.refusals import freeze_norms
from visiongraft.training.trainable import apply_phase


def asked_of_fit(config: FederatedConfig, **more: Any) -> dict[str, Any]:
    """Return the arguments of ``fit`` that the settings stand for.

    Args:
        config: The settings.
        more: Further arguments, in place of those of the settings.
    """
    given = {**fit_defaults(), "learning_rate": None, **config.fit, "select": "last", **more}
    return with_task_augmentation(given)


def begin_phase(network: Network, schedule: Schedule, config: FitConfig) -> None:
    """Freeze what the only phase of a schedule does not train.

    Args:
        network: The network; changed.
        schedule: The schedule.
        config: The settings of ``fit``.

    Raises:
        OptionError: The schedule has several phases, or fits heads anew.
    """
    phase = _only_phase(schedule, network, config.epochs)
    if phase.refit_head:
        raise OptionError(
            f"federated: schedule {schedule.name!r} fits the head anew (refit_head), which would replace the common "
            "one by that of a site alone; choose one that trains it, such as linear_probe, last_n or full"
        )
    apply_phase(network, phase)
    if config.privacy is not None:
        freeze_norms(network)


def _only_phase(schedule: Schedule, network: Network, epochs: int) -> Phase:
    phases = schedule.phases(network.backbone.stages, epochs)
    phase = next(phases)
    with suppress(LookupError):  # of one that reads a history, which sites do not have
        try:
            phases.send([])
        except StopIteration:
            return phase
    raise OptionError(
        f"federated: schedule {schedule.name!r} has several phases; choose one with a single phase, "
        "such as linear_probe, last_n or full"
    )


def frozen_digest(network: Network) -> str:
    """Return the digest of all tensors that do not train in the present phase."""
    return digest_of({name: digest(tensor) for name, tensor in frozen_tensors(network).items()})


def digest_of(digests: Mapping[str, str]) -> str:
    """Return one digest for those of several tensors by name."""
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def state_licenses(network: Network, licenses: Mapping[str, str]) -> None:
    """Let a network state the licenses of the images of all sites, in place of that of one.

    Args:
        network: The network; changed.
        licenses: Licenses by name of the site; ``"unknown"`` if a site states none.
    """
    info = network.backbone.info
    origin = {key: value for key, value in info.provenance.items() if key != DATA_LICENSE}
    if set(licenses.values()) - {UNKNOWN}:
        origin |= {f"site {name}: {DATA_LICENSE}": text for name, text in licenses.items()}
    network.backbone.info = replace(info, provenance=origin)
