"""Hooks: called in order in a real run, with the arguments that a callback takes, or refused."""

from __future__ import annotations

import inspect
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from visiongraft.errors import TrainingError
from visiongraft.hookspecs import RegistrationHooks, RunHooks, hookimpl
from visiongraft.registry.manager import KINDS
from visiongraft.schedules import Phase
from visiongraft.training.freezing import Receipt
from visiongraft.training.run import Run

RUN_HOOKS = {
    name: tuple(inspect.signature(hook).parameters)[1:]
    for name, hook in vars(RunHooks).items()
    # Called after the run: see test_listening and test_strengths.
    if not name.startswith("_") and name not in ("exported", "strength_chosen")
}
SETTINGS: dict[str, Any] = {"schedule": "lp_ft", "epochs": 2}


def callback(name: str, arguments: tuple[str, ...], note: Any) -> object:
    """Make a callback of one hook that takes exactly these arguments."""
    namespace: dict[str, Any] = {"note": note}
    call = ", ".join(f"{a}={a}" for a in arguments)
    code = f"def {name}(self, {', '.join(arguments)}):\n    note({call})"
    exec(code, namespace)  # noqa: S102 - pluggy reads the arguments off compiled code
    return type("Callback", (), {name: hookimpl(namespace[name])})()


def subsets(items: tuple[str, ...]) -> list[tuple[str, ...]]:
    sizes = range(len(items) + 1)
    return list(chain.from_iterable(combinations(items, size) for size in sizes))


class Recorder:
    """Records every hook that is called."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.callbacks = [
            callback(name, arguments, self.note(name)) for name, arguments in RUN_HOOKS.items()
        ]

    def note(self, name: str) -> Any:
        return lambda **arguments: self.heard.append((name, arguments))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


EPOCH = ["step_ended", "step_ended", "epoch_ended"]
PHASE = ["phase_started", *EPOCH, "phase_ended"]


def test_each_hook_is_called_in_order(fit_toy: Any, toy_data: Any) -> None:
    recorder = Recorder()
    fit_toy(toy_data(30), callbacks=recorder.callbacks, **SETTINGS)
    assert recorder.names == ["run_started", *PHASE, *PHASE, "run_finished"]


def test_the_hooks_are_listed_in_the_order_of_their_calls(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    recorder = Recorder()
    callbacks = [*recorder.callbacks, Failing("run_finished")]
    with pytest.raises(TrainingError):
        fit_toy(toy_data(30), callbacks=callbacks, out=tmp_path / "run", **SETTINGS)
    assert list(dict.fromkeys(recorder.names)) == [h for h in RUN_HOOKS if h != "run_finished"]
    assert list(RUN_HOOKS)[-2:] == ["run_finished", "run_failed"]


def test_callbacks_receive_what_happened(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    recorder = Recorder()
    model = fit_toy(toy_data(30), callbacks=recorder.callbacks, out=tmp_path / "run", **SETTINGS)
    callbacks: dict[str, list[dict[str, Any]]] = {}
    for name, arguments in recorder.heard:
        callbacks.setdefault(name, []).append(arguments)
    (run,) = {id(arguments["run"]): arguments["run"] for _, arguments in recorder.heard}.values()
    assert isinstance(run, Run)
    assert run.network is model.network and run.folder == tmp_path / "run"
    assert [a["phase"].trainable for a in callbacks["phase_started"]] == ["head", "all"]
    assert all(isinstance(a["phase"], Phase) for a in callbacks["phase_started"])
    assert [a["index"] for a in callbacks["phase_started"]] == [0, 1]
    assert [(a["step"], a["steps"]) for a in callbacks["step_ended"]] == [(1, 2), (2, 2)] * 2
    for arguments in callbacks["step_ended"]:
        losses = arguments["losses"]
        assert losses.keys() == {"loss", "entropy", "penalty"}
        assert losses["loss"] == pytest.approx(losses["entropy"] + losses["penalty"])
    assert [a["record"] for a in callbacks["epoch_ended"]] == run.history
    assert all(isinstance(a["receipt"], Receipt) for a in callbacks["phase_ended"])
    assert [a["receipt"].to_json() for a in callbacks["phase_ended"]] == run.state.receipts


def test_phase_started_is_called_after_freezing_and_run_finished_after_saving(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    seen: list[Any] = []

    class Look:
        @hookimpl
        def phase_started(self, run: Run) -> None:
            seen.append(any(p.requires_grad for p in run.network.backbone.parameters()))

        @hookimpl
        def run_finished(self, run: Run) -> None:
            assert run.folder is not None
            seen.append((run.folder / "model" / "model.safetensors").is_file())

    fit_toy(toy_data(30), callbacks=[Look()], out=tmp_path / "run", **SETTINGS)
    assert seen == [False, True, True]


def test_a_callback_may_take_any_of_a_hooks_arguments(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    """Every subset of every hook's arguments is called in the same run."""
    heard: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    callbacks = []
    for name, arguments in RUN_HOOKS.items():
        for chosen in subsets(arguments):

            def note(key: Any = (name, chosen), **given: Any) -> None:
                heard.setdefault(key, set()).update(given)

            callbacks.append(callback(name, chosen, note))
    fit_toy(toy_data(30), callbacks=callbacks, out=tmp_path / "run", **SETTINGS)
    with pytest.raises(TrainingError):
        fit_toy(toy_data(30), callbacks=[*callbacks, Failing("run_finished")], **SETTINGS)
    expected = {(n, chosen) for n, arguments in RUN_HOOKS.items() for chosen in subsets(arguments)}
    assert heard == {(name, chosen): set(chosen) for name, chosen in expected}


def test_several_callbacks_follow_one_run(fit_toy: Any, toy_data: Any) -> None:
    one, other = Recorder(), Recorder()
    fit_toy(toy_data(30), callbacks=[*one.callbacks, *other.callbacks], **SETTINGS)
    assert one.names == other.names and one.names


def test_a_callback_changes_nothing_by_listening(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    for name, callbacks in (("heard", Recorder().callbacks), ("alone", [])):
        fit_toy(toy_data(30), callbacks=callbacks, out=tmp_path / name, **SETTINGS)
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (tmp_path / "heard" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()


def test_a_resumed_run_logs_only_what_is_left(fit_toy: Any, toy_data: Any, tmp_path: Path) -> None:
    settings = {**SETTINGS, "checkpoint_every": 1, "out": tmp_path / "run"}
    with pytest.raises(TrainingError):
        fit_toy(toy_data(30), callbacks=[Failing("step_ended", 3)], **settings)
    recorder = Recorder()
    fit_toy(toy_data(30), callbacks=recorder.callbacks, resume=True, **settings)
    # The checkpoint is that of the first phase's end: the third step was reported before the checkpoint.
    names = [name for name in recorder.names if name != "checkpoint_saved"]
    assert names == ["run_started", "phase_started", "phase_ended", *PHASE, "run_finished"]
    assert len(recorder.heard[0][1]["run"].history) == 2  # in the end; it went on from one


# ---- callbacks that fail ----


class Failing:
    """Raises the first or a later time that one hook is called."""

    def __init__(self, hook: str, time: int = 1, error: BaseException | None = None) -> None:
        self.left = time
        self.error = error or TrainingError(f"no more of {hook}")
        self.callbacks: list[BaseException] = []

        def fail(*_: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise self.error

        def note(_: Any, error: BaseException) -> None:
            self.callbacks.append(error)

        hooks = {hook: lambda self: fail(), "run_failed": lambda self, error: note(self, error)}
        for name, function in hooks.items():
            bound = hookimpl(function).__get__(self)
            setattr(self, name, bound)


@pytest.mark.parametrize("hook", [name for name in RUN_HOOKS if name != "run_failed"])
def test_a_callback_that_raises_ends_the_run_with_its_error(
    fit_toy: Any, toy_data: Any, tmp_path: Path, hook: str
) -> None:
    failing, recorder = Failing(hook), Recorder()
    with pytest.raises(TrainingError, match=f"no more of {hook}") as caught:
        fit_toy(
            toy_data(30),
            callbacks=[*recorder.callbacks, failing],
            out=tmp_path / "run",
            **SETTINGS,
        )
    assert caught.value is failing.error
    assert failing.callbacks == [failing.error]
    assert recorder.names.count("run_failed") == 1 and recorder.names[-1] == "run_failed"
    assert recorder.heard[-1][1]["error"] is failing.error
    assert (tmp_path / "run" / "model").exists() is (hook == "run_finished")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), RuntimeError("bug")])
def test_interruptions_and_bugs_are_reported_too(
    fit_toy: Any, toy_data: Any, error: BaseException
) -> None:
    failing = Failing("step_ended", 2, error)
    with pytest.raises(type(error)) as caught:
        fit_toy(toy_data(30), callbacks=[failing], **SETTINGS)
    assert caught.value is error
    assert failing.callbacks == [error]


def test_a_model_that_cannot_be_saved_is_reported_as_a_failure(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    class Blocking:
        @hookimpl
        def phase_ended(self, run: Run) -> None:
            assert run.folder is not None
            (run.folder / "model").write_text("in the way")

    recorder = Recorder()
    with pytest.raises(Exception, match="cannot be written"):
        fit_toy(
            toy_data(30),
            callbacks=[*recorder.callbacks, Blocking()],
            out=tmp_path / "run",
            schedule="linear_probe",
            epochs=1,
        )
    assert recorder.names[-1] == "run_failed" and "run_finished" not in recorder.names


def test_refused_input_is_not_reported_to_callbacks(fit_toy: Any, toy_data: Any) -> None:
    recorder = Recorder()
    with pytest.raises(Exception, match="stage9"):
        fit_toy(toy_data(30), callbacks=recorder.callbacks, schedule="milestones(at={1: 'stage9'})")
    assert recorder.heard == []


# ---- what plugins provide ----


def test_every_registration_hook_provides_one_kind_and_takes_nothing() -> None:
    hooks = {n: h for n, h in vars(RegistrationHooks).items() if not n.startswith("_")}
    assert set(hooks) == {kind.hook for kind in KINDS.values()}
    assert all(list(inspect.signature(hook).parameters) == ["self"] for hook in hooks.values())


@pytest.mark.parametrize("hooks", [RegistrationHooks, RunHooks])
def test_every_hook_and_argument_is_documented(hooks: type) -> None:
    for name, hook in vars(hooks).items():
        if not name.startswith("_"):
            assert hook.__doc__, name
            arguments = set(inspect.signature(hook).parameters) - {"self"}
            assert len(arguments) < 2 or all(f"{a}: " in hook.__doc__ for a in arguments), name
