"""Surgical fine-tuning trains some stages; adaptive schedules follow the norms and metrics of the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import visiongraft
from visiongraft.errors import ScheduleError
from visiongraft.hookspecs import hookimpl
from visiongraft.lookup.methods import find_schedule
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.schedules.auto_rgn import LOWEST, relative_rates
from visiongraft.schedules import Phase
from visiongraft.testing import SCHEDULE_CHECKS, check_schedule
from visiongraft.training.resuming.checkpoint import Checkpoint

STAGES = ("stem", "stage1", "stage2")
SCHEDULES = (
    "surgical",
    "surgical(blocks=['stem'], head=False)",
    "auto_rgn",
    "auto_rgn(probe_epochs=0, interval=2)",
    "thaw_on_plateau(patience=1)",
)
Ratios = dict[str, float]


def drive(
    what: str,
    epochs: int,
    ratio: Callable[[int], Ratios] = lambda epoch: {},
    lasts: Callable[[Phase], int] = lambda phase: phase.epochs,
) -> list[Phase]:
    """Return the phases of a schedule.

    Args:
        what: The schedule.
        epochs: Epochs in all phases together.
        ratio: Relative gradient norms by part, given the epoch.
        lasts: How long a phase is until patience ends it.
    """
    phases = find_schedule(what).phases(STAGES, epochs)
    history: list[dict[str, Any]] = []
    found = [next(phases)]
    while True:
        for _ in range(lasts(found[-1])):
            parts = {part: 1.0 for part in (*STAGES, "head")} | ratio(len(history))
            norms = {part: {"weights": 2.0, "gradients": 2 * r} for part, r in parts.items()}
            history.append({"norms": norms})
        try:
            found.append(phases.send(list(history)))
        except StopIteration:
            return found


@pytest.mark.parametrize("what", SCHEDULES)
@pytest.mark.parametrize("check", SCHEDULE_CHECKS[:3], ids=lambda check: check.name)
def test_the_kit_accepts_the_plans(what: str, check: Any) -> None:
    check(what)


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", SCHEDULES[:-1])
def test_the_kit_accepts_whole_runs(what: str) -> None:
    check_schedule(what)


@pytest.mark.parametrize("what", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 20])
def test_the_epochs_are_spent_exactly(what: str, epochs: int) -> None:
    assert sum(phase.epochs for phase in drive(what, epochs)) == epochs


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("surgical(blocks='stage3')", "names 'stage3', which is not a stage .* did you mean"),
        ("surgical(blocks=['stem', 3])", "names 3, which is not a stage"),
        ("surgical(head=1)", "head=1"),
        ("surgical(probe_epochs=-1)", r"surgical\(probe_epochs=-1\)"),
        ("surgical(learning_rate=0)", "learning_rate=0 of a phase"),
        ("auto_rgn(interval=0)", "interval=0"),
        ("auto_rgn(probe_epochs='a')", r"auto_rgn\(probe_epochs='a'\)"),
        ("auto_rgn(learning_rate=-1)", "learning_rate=-1 of a phase"),
        ("auto_rgn(batch_norm='off')", "batch_norm='off'"),
        ("thaw_on_plateau(patience=0)", "patience=0"),
        ("thaw_on_plateau(layer_decay=2)", "layer_decay=2"),
    ],
)
def test_a_wrong_option_is_refused_before_the_first_phase(what: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        next(find_schedule(what).phases(STAGES, 6))


# ---- surgical ----


def test_surgical_probes_and_then_trains_the_blocks_and_the_head_only() -> None:
    probe, tuning = drive("surgical(blocks=['stem', 'stage1'])", 10)
    assert (probe.trainable, probe.epochs) == ("head", 3)
    assert (tuning.trainable, tuning.epochs) == (("stem", "stage1", "head"), 7)


def test_surgical_without_the_head_trains_the_block_alone_from_the_beginning() -> None:
    (phase,) = drive("surgical(blocks='stage1', head=False)", 4)
    assert phase.trainable == ("stage1",)


# ---- Auto-RGN ----


def test_rates_follow_the_relative_gradient_norms_of_the_last_epoch() -> None:
    phases = drive("auto_rgn(probe_epochs=1)", 4, lambda epoch: {"stem": epoch, "stage1": 0.5})
    assert [phase.trainable for phase in phases] == ["head", "all", "all", "all"]
    assert phases[1].rates == {}  # nothing is measured yet
    assert phases[2].rates == {"stem": 1.0, "stage1": 0.5, "stage2": 1.0, "head": 1.0}
    assert phases[3].rates == {"stem": 1.0, "stage1": 0.25, "stage2": 0.5, "head": 0.5}


def test_the_rates_fall_along_a_cosine_from_one_interval_to_the_next() -> None:
    phases = drive("auto_rgn(probe_epochs=0, learning_rate=0.01)", 4)
    assert [phase.shape for phase in phases] == ["constant"] * 4
    expected = [0.01, 0.00853553, 0.005, 0.00146447]
    assert [phase.learning_rate for phase in phases] == pytest.approx(expected, rel=1e-5)


def test_phases_that_patience_ends_early_leave_their_epochs_to_the_others() -> None:
    phases = drive("auto_rgn(probe_epochs=0, interval=3)", 4, lasts=lambda phase: 1)
    assert [phase.epochs for phase in phases] == [3, 3, 2, 1]


@pytest.mark.parametrize(
    ("norms", "rates"),
    [
        ({"stem": (0.0, 1.0), "head": (1.0, 2.0)}, {"stem": 1.0, "head": 1.0}),
        ({"stem": (1.0, 0.0), "head": (1.0, 2.0)}, {"stem": LOWEST, "head": 1.0}),
        ({"stem": (1.0, float("nan")), "head": (1.0, 2.0)}, {"stem": 1.0, "head": 1.0}),
        ({"stem": (1.0, float("inf")), "head": (1.0, 2.0)}, {"stem": 1.0, "head": 1.0}),
        ({"stem": (1.0, 0.0), "head": (1.0, 0.0)}, {"stem": 1.0, "head": 1.0}),
        ({}, {}),
    ],
)
def test_every_rate_is_positive_whatever_the_norms_are(norms: Any, rates: Ratios) -> None:
    named = {part: {"weights": w, "gradients": g} for part, (w, g) in norms.items()}
    assert relative_rates(named) == rates


# ---- thaw on plateau ----


def test_a_stage_thaws_when_patience_ends_the_phase_before_it() -> None:
    phases = drive("thaw_on_plateau(patience=1)", 12, lasts=lambda phase: min(2, phase.epochs))
    assert [phase.trainable for phase in phases] == ["head", "stage2", "stage1", "stem"]
    assert {phase.patience for phase in phases} == {1}
    assert phases[-1].epochs == 6  # what the others left


def test_while_results_improve_it_divides_the_epochs_equally() -> None:
    assert [phase.epochs for phase in drive("thaw_on_plateau", 12)] == [3, 3, 3, 3]


def test_with_few_epochs_several_stages_join_at_a_time() -> None:
    assert [phase.trainable for phase in drive("thaw_on_plateau", 2)] == ["head", "stem"]


# ---- whole runs ----


class Stop:
    def __init__(self, step: int) -> None:
        self.left = step

    @hookimpl
    def step_ended(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = Classification().examples()
    assert examples is not None
    return Path(examples.make_dataset(tmp_path_factory.mktemp("data"), 24, 0))


def train(data: Path, out: Path, schedule: str, **settings: Any) -> visiongraft.TransferModel:
    return visiongraft.fit(
        data, task="classification", backbone="simple_cnn", weights=None, size=16, batch_size=8,
        device="cpu", schedule=schedule, epochs=4, out=out, **{"callbacks": (), **settings},
    )  # fmt: skip


def last(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


@pytest.mark.parametrize(
    "what",
    [
        "auto_rgn(learning_rate=0.01)",
        pytest.param("thaw_on_plateau(patience=1)", marks=pytest.mark.exhaustive),
    ],
)
def test_an_adaptive_run_that_is_stopped_resumes_exactly(
    flowers: Path, tmp_path: Path, what: str
) -> None:
    train(flowers, tmp_path / "whole", what, checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(flowers, tmp_path / "run", what, checkpoint_every=1, callbacks=[Stop(8)])
    train(flowers, tmp_path / "run", what, checkpoint_every=1, resume=True)
    one, other = last(tmp_path / "whole"), last(tmp_path / "run")
    assert one.state == other.state
    for name, tensor in one.tensors["network"].items():
        assert tensor.equal(other.tensors["network"][name]), name


def test_a_surgical_run_keeps_receipts_of_all_other_stages(flowers: Path, tmp_path: Path) -> None:
    train(flowers, tmp_path / "run", "surgical(blocks='stage1')")
    _, receipt = json.loads((tmp_path / "run" / "receipts.json").read_text())
    assert receipt["trainable"] == "stage1, head"
    assert {name.split(".")[1] for name in receipt["frozen"]} == {"stem", "stage2"}


def test_the_optimizer_of_auto_rgn_trains_each_stage_at_its_rate(
    flowers: Path, tmp_path: Path
) -> None:
    seen: list[tuple[Any, Any]] = []

    class Watch:
        @hookimpl
        def phase_started(self, run: Any, phase: Phase) -> None:
            seen.append((phase.rates, run.history[-1]["norms"] if run.history else None))

    train(flowers, tmp_path / "run", "auto_rgn(probe_epochs=1)", callbacks=[Watch()])
    for rates, norms in seen[2:]:
        assert rates == relative_rates(norms)
        assert max(rates.values()) == 1.0
        assert min(rates.values()) < 1.0
