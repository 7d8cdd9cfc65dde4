"""The training loop: equal runs are equal, processes and accumulation add up, failures are explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from visiongraft import hookimpl
from visiongraft.errors import ScheduleError, TrainingError
from visiongraft.schedules import Phase, milestones, schedule
from visiongraft.training import engine
from visiongraft.training.freezing import digest
from visiongraft.training.optimizers import set_learning_rate
from visiongraft.training.resuming.checkpoint import Checkpoint
from visiongraft.training.run import Run

PLAIN = {"schedule": "full", "epochs": 2, "replay": False}


def last_checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return last_checkpoint(folder).tensors["network"]


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[n].double() - other[n].double()).abs().max()) for n in one)


def test_a_small_problem_is_learned(fit_toy, toy_data):
    model = fit_toy(toy_data(150), epochs=12)
    assert model.evaluate(toy_data(60, seed=5))["share_right"] > 0.9


def test_two_equal_runs_have_identical_weights_and_metrics(tmp_path, fit_toy, toy_data, Toy):
    for name in ("a", "b"):
        torch.rand(3)  # what came before does not matter
        fit_toy(toy_data(40), task=Toy(), out=tmp_path / name, views=2)
    assert largest_difference(final_weights(tmp_path / "a"), final_weights(tmp_path / "b")) == 0
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("a", "b")]
    assert lines[0] == lines[1]


def test_worker_processes_change_nothing(tmp_path, fit_toy, toy_data, Toy):
    for name, workers in (("none", 0), ("two", 2)):
        fit_toy(toy_data(40), task=Toy(), out=tmp_path / name, workers=workers, epochs=2)
    one, other = final_weights(tmp_path / "none"), final_weights(tmp_path / "two")
    assert largest_difference(one, other) == 0


def test_another_seed_changes_the_run(tmp_path, fit_toy, toy_data):
    for seed in (0, 1):
        fit_toy(toy_data(40), out=tmp_path / str(seed), seed=seed, epochs=1)
    assert largest_difference(final_weights(tmp_path / "0"), final_weights(tmp_path / "1")) > 1e-3


@schedule
def one_stage(stages: Any, epochs: int) -> Any:
    yield Phase(epochs, "all", 1e-2, batch_norm="frozen")


def test_accumulated_batches_train_like_one_large_batch(tmp_path, fit_toy, toy_data, Toy):
    # The head's batch norm and dropout see each batch by itself, so a task without them is used.
    class Plain(Toy):
        def build_head(self, backbone):
            return Mean(backbone.info.embedding_dim)

    for name, size, accumulate in (("large", 16, 1), ("small", 4, 4)):
        fit_toy(
            toy_data(43),
            task=Plain(augment=False),
            out=tmp_path / name,
            schedule=quiet,
            batch_size=size,
            accumulate=accumulate,
            epochs=2,
        )
    one, other = final_weights(tmp_path / "large"), final_weights(tmp_path / "small")
    assert largest_difference(one, other) < 1e-5


class Mean(torch.nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(dim, 3)

    def forward(self, features):
        return self.linear(features.pooled)


@schedule
def quiet(stages: Any, epochs: int) -> Any:
    """No random layer is in training mode while only the head trains."""
    yield Phase(epochs, "head", 1e-2)


def launch(
    server: Any,
    folder: Path,
    batch_size: int,
    *fault: str,
    processes: int = 1,
    kind: str = "plain",
) -> list[str]:
    """Train in this many processes; return what each reports: how many joined, and its weights."""
    settings = {
        "kind": kind,
        "task": {"augment": False},
        "schedule": "probe_then_all",
        "epochs": 3,
        "report": True,
    }
    settings |= {"count": 51, "batch_size": batch_size, "processes": processes}  # an uneven batch
    assert server.run(folder, {**settings, "ema": 0.9, "replay": False}, *fault) == 0
    return [(folder / f"rank{rank}").read_text() for rank in range(processes)]


@pytest.fixture(scope="module")
def alone(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes") / "alone"
    (line,) = launch(server, folder, 16)
    assert line.startswith("1 ")
    return folder


@pytest.mark.slow
def test_two_processes_train_like_one_through_an_unfreeze(
    server: Any, tmp_path: Path, alone: Path
) -> None:
    first, second = launch(server, tmp_path / "two", 8, processes=2)
    assert first.startswith("2 ")  # they did join
    assert first == second  # and hold the same weights
    for name in ("network", "ema"):
        points = [last_checkpoint(folder).tensors[name] for folder in (alone, tmp_path / "two")]
        assert largest_difference(*points) < 1e-6
    frozen = last_checkpoint(alone).state.receipts[0]["frozen"]
    moved = {n for n, t in final_weights(alone).items() if frozen.get(n) not in (None, digest(t))}
    assert "backbone.blocks.stem.0.weight" in moved  # what was unfrozen did train
    records = [records_of(folder) for folder in (alone, tmp_path / "two")]
    assert [r["trainable"] for r in records[0]] == ["head", "all", "all"]
    for one, two in zip(*records, strict=True):
        assert one["validation"] == two["validation"]
        assert one["train"]["loss"] == pytest.approx(two["train"]["loss"], abs=1e-5)


def test_two_processes_evaluate_one_network_with_batch_norm(server: Any, tmp_path: Path) -> None:
    first, second = launch(server, tmp_path / "two", 8, processes=2, kind="toy")
    assert first == second  # running statistics as well


@pytest.mark.exhaustive
def test_processes_that_hook_gradients_only_once_would_be_noticed(
    server: Any, tmp_path: Path, alone: Path
) -> None:
    first, second = launch(server, tmp_path / "two", 8, "wrap once", processes=2)
    assert first != second  # what was unfrozen is not synchronized
    one, two = final_weights(alone), final_weights(tmp_path / "two")
    assert largest_difference(one, two) > 1e-6


def test_the_best_epoch_is_kept_not_the_last(fit_toy, toy_data, tmp_path):
    model = fit_toy(toy_data(60), out=tmp_path / "run", epochs=10)
    values = [r["validation"]["share_right"] for r in records_of(tmp_path / "run")]
    assert model.facts["metrics"]["epoch"] == values.index(max(values))
    assert model.facts["metrics"]["share_right"] == max(values)
    (best,) = (tmp_path / "run" / "checkpoints").glob("best-*.safetensors")
    assert best.name == f"best-{values.index(max(values))}.safetensors"


def test_patience_ends_the_phase_not_the_run(fit_toy, toy_data, tmp_path):
    fit_toy(toy_data(30), out=tmp_path / "run", schedule="lp_ft", epochs=20, patience=1)
    records = records_of(tmp_path / "run")
    assert len(records) < 20
    assert {r["phase"] for r in records} == {0, 1}


@schedule
def impatient(stages: Any, epochs: int) -> Any:
    yield Phase(epochs // 2, "head", 1e-9, patience=2)
    yield Phase(epochs // 2, "head", 1e-9)


def test_a_phase_may_have_a_patience_of_its_own(fit_toy, toy_data, tmp_path):
    fit_toy(toy_data(20), out=tmp_path / "run", schedule=impatient, epochs=16, patience=4)
    phases = [record["phase"] for record in records_of(tmp_path / "run")]
    assert (phases.count(0), phases.count(1)) == (3, 4)  # its first epoch is the best so far


def test_a_schedule_that_does_not_fit_leaves_no_run_behind(fit_toy, toy_data, tmp_path):
    with pytest.raises(ScheduleError, match="stage9"):
        fit_toy(toy_data(20), schedule=milestones(at={1: "stage9"}), out=tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    fit_toy(toy_data(20), schedule="linear_probe", epochs=1, out=tmp_path / "run")


def test_a_phase_in_which_nothing_trains_is_refused_in_one_line(
    fit_toy: Any, toy_data: Any, Toy: Any
) -> None:
    class Bare(Toy):
        """A task whose head and loss have no parameters."""

        def build_head(self, backbone: Any) -> torch.nn.Module:
            return FirstThree()

        def build_loss(self) -> torch.nn.Module:
            return Entropy()

    task = Bare(augment=False)
    with pytest.raises(TrainingError, match="nothing trains in phase 1: head has no trainable"):
        fit_toy(toy_data(20), task=task, schedule="linear_probe", epochs=1)
    fit_toy(toy_data(20), task=task, schedule="full", epochs=1)


class FirstThree(torch.nn.Module):
    def forward(self, features: Any) -> torch.Tensor:
        return features.pooled[:, :3]


class Entropy(torch.nn.Module):
    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"entropy": torch.nn.functional.cross_entropy(outputs, targets)}


def test_the_history_reaches_the_schedule(fit_toy, toy_data):
    heard = []

    @schedule
    def listening(stages, epochs):
        heard.append((yield Phase(2, "head")))
        heard.append((yield Phase(1, "all")))

    fit_toy(toy_data(30), schedule=listening, epochs=3)
    assert [[r["phase"] for r in past] for past in heard] == [[0, 0], [0, 0, 1]]


def test_a_loss_that_is_not_finite_stops_the_run_in_one_line(fit_toy, toy_data):
    with pytest.raises(
        TrainingError, match=r"loss is not finite.*epoch 1, step 2; .*lower the learning rate"
    ):
        fit_toy(toy_data(30), schedule="full(learning_rate=1e20)", clip_norm=None, epochs=3)


def test_a_loss_that_is_not_finite_is_blamed_on_weights_that_are_not(fit_toy, toy_data, Toy):
    """Not on the targets: what a plugin loads itself may be damaged, too."""

    class Damaged(Toy):
        def build_head(self, backbone):
            head = super().build_head(backbone)
            head.linear.weight.data[0, 0] = float("nan")
            return head

    with pytest.raises(
        TrainingError, match=r"tensor 'head\.linear\.weight' of the network is not finite: look for"
    ):
        fit_toy(toy_data(30), task=Damaged(augment=False), schedule="full", epochs=1)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains_and_leaves_float32_weights(fit_toy, toy_data, precision):
    model = fit_toy(toy_data(60), precision=precision, epochs=6)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert model.evaluate(toy_data(30, seed=3))["share_right"] > 0.5


def test_averaged_weights_are_what_is_evaluated_and_saved(fit_toy, toy_data, tmp_path):
    model = fit_toy(toy_data(40), out=tmp_path / "run", ema=0.95, epochs=4, select="last")
    point = last_checkpoint(tmp_path / "run")
    saved = {n: t for n, t in model.network.state_dict().items() if t.is_floating_point()}
    assert largest_difference(saved, point.tensors["ema"]) == 0
    assert largest_difference(point.tensors["ema"], point.tensors["network"]) > 0


class RecordedEpochs:
    """Keeps the weights after each epoch."""

    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    @hookimpl
    def epoch_ended(self, run: Run, record: dict[str, Any]) -> None:
        self.weights.append(run.network.head.linear.weight.detach().clone())


def test_the_weights_at_the_ends_of_the_last_epochs_are_averaged(fit_toy, toy_data):
    recorded = RecordedEpochs()
    model = fit_toy(toy_data(40), swa=3, epochs=5, select="last", callbacks=[recorded])
    mean = torch.stack(recorded.weights[2:]).mean(0)
    assert torch.allclose(model.network.head.linear.weight, mean, atol=1e-6)
    assert (recorded.weights[-1] - mean).abs().max() > 1e-4


def test_the_learning_rate_is_constant_in_the_epochs_that_are_averaged(
    fit_toy, toy_data, monkeypatch
):
    factors = []

    def record(optimizer: torch.optim.Optimizer, factor: float) -> None:
        factors.append(factor)
        set_learning_rate(optimizer, factor)

    monkeypatch.setattr(engine, "set_learning_rate", record)
    schedule = "milestones(at={0: 'head', 3: 'all'})"  # the average begins in the first phase
    fit_toy(toy_data(40), swa=3, epochs=5, schedule=schedule, batch_size=8, validation=0.2)
    assert len(factors) == 20
    first, second = factors[:12], factors[12:]
    assert 0 < first[8] < first[7] < 1
    assert set(first[8:]) == {first[8]}
    assert set(second) == {1.0}


def test_a_run_folder_contains_what_is_documented(fit_toy, toy_data, tmp_path):
    fit_toy(toy_data(30), out=tmp_path / "run", epochs=2, callbacks=["curves", "tensorboard"])
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert {
        *("config.json", "metrics.jsonl", "receipts.json", "checkpoints", "model"),
        *("curves.png", "run.log", "data-check.json", "inputs.json", "tensorboard"),
        *("callbacks.json", "trackers.json"),
    } == names
    receipts = json.loads((tmp_path / "run" / "receipts.json").read_text())
    assert all(len(value) == 64 for value in receipts[0]["frozen"].values())
