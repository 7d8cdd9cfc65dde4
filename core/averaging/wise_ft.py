"""WiSE-FT: between the weights before and after fine-tuning (Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visiongraft.averaging.members import Members, Model, averaged_model, headline, measured
from visiongraft.averaging.weights import weighted_mean
from visiongraft.config import FitConfig
from visiongraft.errors import OptionError
from visiongraft.model import TransferModel
from visiongraft.options import checks_keywords, is_number
from visiongraft.preparation.starting import start_folder
from visiongraft.saving.saved_model import WEIGHTS, model_folder
from visiongraft.saving.weights import file_sha256
from visiongraft.task import Task
from visiongraft.training.resuming.inputs import RunInputs

HALF = 0.5


@checks_keywords
def wise_ft(
    model: Model,
    start: Model | None = None,
    *,
    alpha: float | Sequence[float] = HALF,
    data: Any = None,
    batch_size: int = 32,
    task: type[Task] | None = None,
) -> TransferModel:
    """Interpolate between the weights before and after fine-tuning (WiSE-FT).

    "Robust fine-tuning of zero-shot models" (Wortsman et al., 2022): such models often keep the robustness
    of the first and most of the accuracy of the second. Both need a head for the same classes: ``start`` is
    the model that the run continued with (``fit(start=...)``), such as a linear probe.

    Args:
        model: The fine-tuned model: the folder of a run or a saved model, or a model.
        start: The model before, likewise; the one that the run ``model`` continued with if ``None``.
        alpha: Weight of the fine-tuned model, from 0 (``start``) to 1 (``model``); of several, the one with
            the best headline metric on ``data`` is chosen.
        data: Labeled data to measure on, in any form that ``TransferModel.evaluate`` takes; the validation
            images of the run if ``None`` and at hand.
        batch_size: Images per forward pass.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The interpolated model; its facts hold ``alpha``, and the metrics if there were images to measure on.

    Raises:
        OptionError: ``alpha`` is not from 0 to 1, it is not known what the run continued with, the models
            differ in what averaging keeps, or several alphas have no images to choose on.

    Examples:
        ``visiongraft.wise_ft("runs/tuned", "runs/probe", alpha=[0.2, 0.4, 0.6, 0.8]).save("model")``
    """
    alphas = [alpha] if isinstance(alpha, int | float) else list(alpha)
    for each in alphas:
        if not (is_number(each) and 0 <= each <= 1):
            raise OptionError(f"alpha={each!r} is not a number from 0 to 1")
    if not alphas:
        raise OptionError("alpha is empty; pass a number from 0 to 1, or several")
    members = Members.of([model, _start_of(model) if start is None else start], task)
    measuring = members.evaluation(data)
    if measuring is None and len(alphas) > 1:
        raise OptionError("several alphas are chosen by a metric: pass data=PATH, labeled images")
    network = members.network()
    sweep: dict[float, dict[str, Any]] = {}
    if measuring is not None:
        for each in alphas:
            network.load_state_dict(weighted_mean(members.states, [each, 1 - each]), strict=False)
            sweep[each] = measured(network, measuring, batch_size)
    chosen = max(sweep, key=lambda a: headline(network.task, sweep[a])) if sweep else alphas[0]
    network.load_state_dict(weighted_mean(members.states, [chosen, 1 - chosen]), strict=False)
    facts = {
        "method": "WiSE-FT",
        "alpha": chosen,
        "model": members.names[0],
        "start": members.names[1],
    }
    if len(sweep) > 1:
        metric = network.task.headline
        facts[f"{metric} by alpha"] = {str(a): found[metric] for a, found in sweep.items()}
    return averaged_model(members, network, facts, measuring, sweep.get(chosen))


def _start_of(model: Model) -> str | Path:
    """Find the model that a run continued with."""
    folder = model.run_folder if isinstance(model, TransferModel) else Path(model)
    config = folder / "config.json" if folder is not None else None
    if folder is None or config is None or not (folder / "model").is_dir():
        raise OptionError(
            "start is missing: only the folder of a run tells what it continued with; pass the model before "
            "fine-tuning, with a head for the same classes, such as a linear probe"
        )
    begun = FitConfig.read(folder).start
    if begun is None:
        raise OptionError(
            f"run {folder} began with a random head, so there is no model before it; train a linear probe "
            "first and fine-tune that with start=PROBE, or pass start"
        )
    start = start_folder(begun, folder)
    inputs, weights = RunInputs.read(folder), model_folder(start) / WEIGHTS
    digest = None if inputs is None else inputs.weights.get("start")
    if digest is not None and weights.is_file() and file_sha256(weights) != digest:
        raise OptionError(
            f"{start} has changed since run {folder} continued with it; pass the model before fine-tuning as "
            "start"
        )
    return start
