"""How much noise a privacy budget needs, and how much of it a run has spent."""

from __future__ import annotations

import logging
import secrets
import warnings
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from accelerate.utils import broadcast_object_list

from visiongraft.errors import OptionError, PluginError
from visiongraft.privacy import Privacy
from visiongraft.training.run import Run

SECRET_BITS = 62
TOLERANCE = 0.01  # of epsilon, up to which less is spent than is allowed
PRV_ERROR = 0.01  # of epsilon, which Opacus' PRV accountant adds to its bound


def opacus(module: str) -> Any:
    """Import a module of Opacus, which computes gradients of single images, clips them and counts.

    Raises:
        PluginError: Opacus is not installed.
    """
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own optional dependencies
            return import_module(f"opacus.{module}")
    except ImportError as error:
        raise PluginError("privacy needs Opacus: pip install 'visiongraft[privacy]'") from error
    finally:
        logging.root.handlers[:] = handlers  # it adds one, which would print all lines once more
        logging.root.setLevel(level)


def asked_privacy(run: Run) -> Privacy | None:
    """Return the differential privacy that a run was asked for."""
    return Privacy.read(run.config.privacy)


def lot_size(run: Run) -> int:
    """Return how many images a step sees on average, in all processes together."""
    return min(run.config.batch_size * run.config.accumulate, len(run.training))


def steps_per_epoch(run: Run) -> int:
    """Return the number of steps in which each image is seen once on average."""
    return max(1, round(len(run.training) / lot_size(run)))


def begin_privacy(run: Run, trainings: int = 1) -> None:
    """Choose the noise of a new run for all the steps that it may make, and its secret seed.

    Args:
        run: The run before its first step, with its final settings.
        trainings: How often all its epochs are trained, as in the rounds of federated training.

    Raises:
        OptionError: No noise is large enough.
    """
    privacy = asked_privacy(run)
    if privacy is None:
        return
    if privacy.accountant == "prv" and privacy.epsilon <= PRV_ERROR:
        raise OptionError(
            f"privacy: epsilon={privacy.epsilon:g} is within the error of the accountant 'prv', {PRV_ERROR}; take "
            "accountant=rdp, or a larger epsilon"
        )
    rate = lot_size(run) / len(run.training)
    steps = steps_per_epoch(run) * run.config.epochs * trainings
    try:
        noise = _noise(privacy.epsilon, privacy.delta, privacy.accountant, rate, steps)
    except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise OptionError(
            f"privacy: epsilon={privacy.epsilon:g} with delta={privacy.delta:g} cannot be met in {steps} "
            f"steps of {lot_size(run)} of {len(run.training)} images ({error}); allow a larger epsilon, "
            "fewer epochs or smaller batches"
        ) from error
    seed = privacy.noise_seed
    run.state = replace(
        run.state,
        privacy={
            "noise_seed": _secret_seed() if seed is None else seed,
            "noise_multiplier": noise,
            "sample_rate": rate,
        },
    )
    line = (
        f"privacy: noise multiplier {noise:.3f} for epsilon={privacy.epsilon:g}, delta={privacy.delta:g} in "
        f"{steps} steps of {lot_size(run)} of {len(run.training)} images on average"
    )
    run.notes += (line,)
    run.warnings += _warnings(privacy, len(run.training))


def _secret_seed() -> int:
    """Draw a seed that all processes of the run share."""
    (seed,) = broadcast_object_list([secrets.randbits(SECRET_BITS)])
    return int(seed)


def spent_epsilon(run: Run) -> float:
    """Return the privacy budget that the steps of a private run so far have spent."""
    privacy, state = asked_privacy(run), run.state
    assert privacy is not None
    if not state.steps:
        return 0.0
    chosen = state.privacy
    return _epsilon(
        privacy.delta,
        privacy.accountant,
        chosen["noise_multiplier"],
        chosen["sample_rate"],
        state.steps,
    )


@cache  # takes seconds
def _noise(epsilon: float, delta: float, accountant: str, rate: float, steps: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about orders that the search tries and does not need
        found = opacus("accountants.utils").get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=rate,
            steps=steps,
            accountant=accountant,
            epsilon_tolerance=min(TOLERANCE, epsilon / 100),
        )
    return float(found)


@cache
def _epsilon(delta: float, accountant: str, noise: float, rate: float, steps: int) -> float:
    made = opacus("accountants").create_accountant(accountant)
    made.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(made.get_epsilon(delta))


def privacy_facts(run: Run) -> dict[str, Any]:
    """Return what a private run guarantees, for model card and certificate; nothing of any other run.

    The seed of the noise is not among it.
    """
    privacy = asked_privacy(run)
    if privacy is None:
        return {}
    return {
        "epsilon": round(spent_epsilon(run), 4),
        "delta": privacy.delta,
        "protects": "each training image of this run; no image of other datasets or earlier runs",
        "mechanism": "DP-SGD with Poisson sampling",
        "accountant": privacy.accountant,
        "noise multiplier": run.state.privacy["noise_multiplier"],
        "max_grad_norm": privacy.max_grad_norm,
        "sample rate": run.state.privacy["sample_rate"],
        "steps": run.state.steps,
        "noise": noise_origin(privacy),
    }


def noise_origin(privacy: Privacy) -> str:
    """Say whether the seed of the noise is secret."""
    if privacy.noise_seed is None:
        return "from a secret seed"
    return "from a known seed: for experiments only, whoever knows it can remove the noise"


def _warnings(privacy: Privacy, images: int) -> tuple[str, ...]:
    found = []
    if privacy.noise_seed is not None:
        found.append(
            "privacy: whoever knows noise_seed can remove the noise; omit it outside experiments"
        )
    if privacy.delta >= 1 / images:
        found.append(
            f"privacy: delta={privacy.delta:g} allows to publish one of {images} images as it is; choose a "
            f"delta well below {1 / images:.1g}"
        )
    return tuple(found)
