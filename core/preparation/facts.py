"""What a trained model states about its training: for its config and its model card."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from visiongraft.preparation.datasets import RunData
from visiongraft.preparation.starting import AFTER_TRAINING
from visiongraft.saving.weight_origins import START
from visiongraft.training.grouped.weights import group_facts
from visiongraft.training.measuring.nested import nested_estimate
from visiongraft.training.private.accounting import privacy_facts
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.run import Run


def run_facts(run: Run, data: RunData, inputs: RunInputs) -> dict[str, Any]:
    """Return what is known about a finished run, as JSON values.

    Args:
        run: The run.
        data: Its data.
        inputs: What it computed from, with changes on resumption.
    """
    best = run.state.best or {}
    phases: dict[int, dict[str, Any]] = {}
    for record in run.history:
        phase = phases.setdefault(record["phase"], {"trainable": record["trainable"], "epochs": 0})
        phase["epochs"] += 1
        if "head_refit" in record:
            phase["head_refit"] = record["head_refit"]
    config = asdict(run.config)
    settings = [
        "epochs",
        "batch_size",
        "optimizer",
        "weight_decay",
        "precision",
        "ema",
        "swa",
        "seed",
    ]
    further = ("transfer_loss", "adapters", "start", "wise_ft", "groups", "group_training")
    settings += [name for name in further if config[name]]
    before, after = data.task.options(), run.network.task.options()
    determined = [name for name, value in after.items() if value != before[name]]
    return {
        "data": _data_facts(run, data, inputs),
        "training": {
            "schedule": config["schedule"],
            "phases": list(phases.values()),
            **{name: config[name] for name in settings},
            **({AFTER_TRAINING: determined} if determined else {}),
        },
        **({START: dict(run.kept_from_start)} if run.kept_from_start else {}),
        "metrics": {
            "epoch": best.get("epoch"),
            **{
                n: v
                for n, v in best.get("results", {}).items()
                if not (n == "groups" and run.group_names)
            },
        },
        **({"groups": group_facts(run)} if run.group_names else {}),
        **_evaluation_facts(run),
        **({"privacy": privacy_facts(run)} if run.config.privacy is not None else {}),
        "receipts": {
            f"phase {r['phase'] + 1}": f"{len(r['frozen'])} frozen tensors unchanged, "
            f"{r['modules_in_eval']} modules kept in evaluation mode"
            for r in run.state.receipts
        },
    }


def _data_facts(run: Run, data: RunData, inputs: RunInputs) -> dict[str, Any]:
    """Return what is known about the data; of a private run nothing but how many images there are."""
    if run.config.privacy is not None:
        counts = {"training": run.training, "validation": run.validation}
        return {f"{part} images": len(samples) for part, samples in counts.items()}
    changes = [f"from epoch {c['epoch'] + 1}: {'; '.join(c['changes'])}" for c in inputs.changes]
    return {
        **data.splits.facts,
        **data.checked.report.counts(),
        **{f"images of {name}": len(each.samples) for name, each in data.further.items()},
        **({"changed during training": changes} if changes else {}),
    }


def _evaluation_facts(run: Run) -> dict[str, Any]:
    """Return the metrics of the evaluation sets, and how the epoch was selected if not by default."""
    best: dict[str, Any] = run.state.best or {}
    facts: dict[str, Any] = {}
    nested = nested_estimate(run.history, run.network.task.better)
    if nested is not None:
        facts["nested validation"] = {run.network.task.headline: nested}
    if run.state.before:
        facts["evaluation"] = {
            f"{part}.{name}{when}": value
            for when, results in (("", best["evaluation"]), (" before training", run.state.before))
            for part, metrics in results.items()
            for name, value in metrics.items()
        }
    if run.config.select != "best" or run.config.wise_ft is not None:
        unsatisfied = best["unsatisfied"]
        facts["selection"] = {"select": run.config.select, "satisfied": not unsatisfied}
        facts["selection"] |= {n: best[n] for n in ("alpha", "margins") if n in best}
        facts["selection"] |= {"not satisfied": unsatisfied} if unsatisfied else {}
    return facts
