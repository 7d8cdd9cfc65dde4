"""Which weights a run keeps: of an epoch, those that suit its selection, and of all epochs the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from visiongraft.saving.tensor_files import write_tensors
from visiongraft.training.measuring.epochs import Measured, headline, rank, sign, value
from visiongraft.training.run import Run
from visiongraft.training.selection.criteria import is_better, is_preferred


class BestWeights:
    """The weights of the epoch to keep so far.

    Attributes:
        tensors: By names of the network's state, on the CPU; before the end of the first epoch only memory for them.
        written: Whether they are in a file.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.written = True

    def note(self, run: Run, measured: Measured) -> bool:
        """Keep the present weights if they are those to select so far.

        Args:
            run: The run; its state is changed.
            measured: The results of the present weights.

        Returns:
            Whether they are kept.
        """
        state, selection = run.state, run.selection
        *missing, signed = ranked = rank(run, measured)
        if selection.last:
            past = [sign(run) * headline(run, record["validation"]) for record in state.history]
            improved = all(is_better(signed, each) for each in past)
        else:
            improved = state.best is None or is_preferred(ranked, rank_of_best(run, state.best))
        state.stale = 0 if improved else state.stale + 1
        if not (improved or selection.last):
            return False
        state.best = {
            "epoch": state.epoch,
            "value": value(run, measured),
            "missing": missing,
            "unsatisfied": selection.unsatisfied(measured.metrics, state.before, measured.margins),
            "file": f"best-{state.epoch}.safetensors",
            "results": measured.validation,
            "evaluation": measured.others,
            **_details(measured),
        }
        self.keep(run.network.state_dict())
        return True

    def reserve(self, tensors: Mapping[str, Tensor]) -> None:
        """Allocate memory, unless there is some.

        Done before the first step, since small blocks among those that steps free would keep the steps after from
        using them again.
        """
        if not self.tensors:
            self.keep(tensors)
            self.written = True

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors over those that were kept before."""
        for name in [name for name in self.tensors if name not in tensors]:
            del self.tensors[name]
        for name, tensor in tensors.items():
            kept = self.tensors.get(name)
            if kept is None or (kept.shape, kept.dtype) != (tensor.shape, tensor.dtype):
                self.tensors[name] = tensor.detach().to("cpu", copy=True)
            else:
                kept.copy_(tensor.detach())
        self.written = False

    def write(self, folder: Path, best: dict[str, Any] | None) -> None:
        """Write the weights, if that is not done yet."""
        if not self.written and best is not None:
            write_tensors(folder / best["file"], self.tensors, {"epoch": best["epoch"]})
            self.written = True


def choose_alpha(run: Run, measured: Sequence[Measured]) -> Measured:
    """Choose among the interpolations of an epoch.

    With a confidence, those are accepted that come before the first one that does not satisfy the conditions: tests
    in a fixed order that end with the first failure need no correction for their number.

    Args:
        run: The run.
        measured: The results, by ascending alpha.

    Returns:
        The best one; the first one if none is accepted.
    """
    accepted = list(measured)
    if run.selection.confidence is not None:
        failed = [position for position, one in enumerate(measured) if rank(run, one)[0]]
        accepted = list(measured[: failed[0]]) if failed else accepted
    best, *others = accepted or measured[:1]
    for one in others:
        if is_preferred(rank(run, one), rank(run, best)):
            best = one
    return best


def describe_epoch(measured: Sequence[Measured], chosen: Measured) -> dict[str, Any]:
    """Return what the record of an epoch holds of its metrics."""
    found: dict[str, Any] = {"validation": chosen.metrics["validation"]}
    if chosen.loss:
        found["validation_loss"] = chosen.loss
    if chosen.folds:
        found["folds"] = [one.folds for one in measured]
    if chosen.others:
        found["evaluate_on"] = chosen.others
    if chosen.alpha is not None:
        found["interpolations"] = [
            {"alpha": one.alpha, "validation": one.metrics["validation"], "evaluate_on": one.others}
            for one in measured
        ]
    return {**found, **_details(chosen)}


def _details(measured: Measured) -> dict[str, Any]:
    """Return alpha and margins, where there are any."""
    margins = {f"{c.dataset}.{c.metric}": margin for c, margin in measured.margins.items()}
    alpha = {} if measured.alpha is None else {"alpha": measured.alpha}
    return {**alpha, **({"margins": margins} if margins else {})}


def rank_of_best(run: Run, best: dict[str, Any]) -> tuple[int, float, float]:
    """Return what ``is_preferred`` compares, of the best epoch so far."""
    count, sum_ = best.get("missing", (0, 0.0))
    return count, sum_, sign(run) * best["value"]
