"""Which callbacks follow a run and an export, and which files they are notified of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from visiongraft import load
from visiongraft.certificate import Certificate, Comparison
from visiongraft.errors import ExportError, OptionError, PluginError
from visiongraft.exporter import Exporter
from visiongraft.hookspecs import RunHooks, hookimpl
from visiongraft.registry.callbacks import listen
from visiongraft.registry.manager import plugins
from visiongraft.training.resuming.checkpoint import Checkpoint


class Note(Exporter):
    """Writes the name of the task; the smallest exporter that callbacks can follow."""

    name = "note"
    suffix = ".note"

    def export(self, model: Any, path: Path, samples: Any, **options: Any) -> Certificate:
        if options:
            raise ExportError("no options")
        path.write_text(model.task.name)
        comparison = Comparison("random", 1, 1, ((8, 8),), 0.0, 0, "image 0")
        return Certificate(
            path.name, "note", (comparison,), 1e-4, "share_right", None, None, None, {}
        )


class SecondNote(Note):
    name = "second-note"
    suffix = ".twice"


class ThirdNote(SecondNote):
    name = "third-note"


class Bell:
    """Follows exports; selected by its name."""

    name = "bell"
    heard: ClassVar[list[str]] = []

    @hookimpl
    def exported(self, path: Path) -> None:
        self.heard.append(path.name)


class Plugin:
    @hookimpl
    def register_exporters(self) -> list[type[Exporter]]:
        return [Note, SecondNote, ThirdNote]

    @hookimpl
    def register_callbacks(self) -> list[type[Any]]:
        return [Bell]


@pytest.fixture(autouse=True, scope="module")
def plugin_is_registered() -> None:
    if "note" not in plugins().exporters():
        plugins().register(Plugin(), "notes")


class Ear:
    """Records the files that it is notified of."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @hookimpl
    def checkpoint_saved(self, run: Any, path: Path) -> None:
        self.heard.append((run.state.epoch, Checkpoint.read(path).state.step))

    @hookimpl
    def exported(self, model: Any, path: Path, certificate: Certificate) -> None:
        self.heard.append((path.read_text(), certificate.format, model.task.name))


def test_a_callback_is_notified_of_checkpoints_once_they_can_be_read(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    ear = Ear()
    fit_toy(toy_data(40), epochs=1, out=tmp_path, checkpoint_every=1, callbacks=[ear])
    assert ear.heard == [(0, 1), (0, 2), (1, 0)]


def test_a_run_without_a_folder_saves_no_checkpoint(fit_toy: Any, toy_data: Any) -> None:
    ear = Ear()
    fit_toy(toy_data(30), epochs=1, checkpoint_every=1, callbacks=[ear])
    assert ear.heard == []


def test_the_runs_callbacks_are_notified_of_exports_of_its_model(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    ear = Ear()
    model = fit_toy(toy_data(30), epochs=1, callbacks=[ear])
    model.export(tmp_path / "model.note")
    assert ear.heard == [("toy", "note", "toy")]
    with pytest.raises(ExportError):
        model.export(tmp_path / "model.note", unknown=1)
    assert len(ear.heard) == 1


def test_callbacks_passed_to_an_export_replace_those_of_the_run(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    of_run, of_export = Ear(), Ear()
    model = fit_toy(toy_data(30), epochs=1, out=tmp_path / "run", callbacks=[of_run])
    of_run.heard.clear()
    model.export(tmp_path / "a.note", callbacks=[of_export])
    model.export(tmp_path / "b.note", callbacks=())
    load(tmp_path / "run").export(tmp_path / "c.note", callbacks=["bell"])
    load(tmp_path / "run").export(tmp_path / "d.note")
    assert (len(of_run.heard), len(of_export.heard), Bell.heard) == (0, 1, ["c.note"])


def test_a_suffix_of_two_exporters_must_be_settled_by_name(
    fit_toy: Any, toy_data: Any, tmp_path: Path
) -> None:
    model = fit_toy(toy_data(30), epochs=1)
    with pytest.raises(OptionError, match="choose an exporter, format=second-note or third-note"):
        model.export(tmp_path / "model.twice")
    model.export(tmp_path / "model.twice", format="third-note")


@pytest.mark.parametrize("hook", sorted(n for n in vars(RunHooks) if not n.startswith("_")))
def test_a_callback_may_take_none_of_a_hooks_arguments(hook: str) -> None:
    callback = SimpleNamespace(**{hook: hookimpl(lambda: None, specname=hook)})
    assert listen([callback]).get_hookcallers(callback)


@pytest.mark.parametrize(
    ("callback", "error", "words"),
    [
        (SimpleNamespace(x=1), OptionError, "implements no run hook; see RunHooks"),
        (
            SimpleNamespace(epoch_ended=hookimpl(lambda recrod: None, specname="epoch_ended")),
            OptionError,
            "recrod",
        ),
        (
            SimpleNamespace(epoch_end=hookimpl(lambda: None, specname="epoch_end")),
            OptionError,
            "epoch_end",
        ),
        ("bel", PluginError, "no callback 'bel'; did you mean 'bell'"),
    ],
)
def test_a_wrong_callback_is_refused_in_one_line(
    callback: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        listen([callback])
    assert "\n" not in str(caught.value)
