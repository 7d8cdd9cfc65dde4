"""All checks of everything that a plugin provides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from visiongraft.errors import PluginError, near_matches, one_line
from visiongraft.registry.manager import PluginRecord, plugins
from visiongraft.registry.records import normalized
from visiongraft.testing.adapters import ADAPTER_CHECKS, AdapterTrial
from visiongraft.testing.backbones import BACKBONE_CHECKS, BackboneTrial
from visiongraft.testing.exporters import EXPORTER_CHECKS, ExporterTrial
from visiongraft.testing.losses import TRANSFER_LOSS_CHECKS, TransferLossTrial
from visiongraft.testing.readers import READER_CHECKS, ReaderTrial
from visiongraft.testing.report import (
    LONGEST,
    Attempt,
    Check,
    Checks,
    NotTried,
    Result,
    expect,
    run_all,
)
from visiongraft.testing.schedules import SCHEDULE_CHECKS, ScheduleTrial
from visiongraft.testing.scorers import SCORER_CHECKS, ScorerTrial
from visiongraft.testing.sections import SECTION_CHECKS, SectionTrial
from visiongraft.testing.specimen import Specimen
from visiongraft.testing.tasks import TASK_CHECKS
from visiongraft.testing.tasks.reproducing import expect_same_runs
from visiongraft.testing.tasks.trial import TaskTrial
from visiongraft.testing.text_encoders import TEXT_ENCODER_CHECKS, TextEncoderTrial
from visiongraft.training.transfer_losses import TransferLoss, options_of


def _record(subject: Any) -> PluginRecord:
    assert isinstance(subject, PluginRecord)
    return subject


check_record = Checks(_record)
check_callback = Checks(str)


@check_record("hookspecs")
def it_loads(record: PluginRecord) -> None:
    """The plugin can be imported, is compatible with this version, and all of its hooks work."""
    words, failures = f"to load {record.owner} and call its hooks", record.failures
    expect(not failures, words, "; ".join(failures), "no problem")


@check_record("registry.manager.PluginManager.get")
def its_names_are_its_own(record: PluginRecord) -> None:
    """No other plugin provides an item of the same kind and name."""
    words, clashes = f"to look up what {record.owner} provides", record.clashes
    expect(not clashes, words, "; ".join(clashes), "names that no other plugin uses")


@check_record("hookspecs")
def it_leaves_settings_alone(record: PluginRecord) -> None:
    """Importing the plugin changes no process-wide setting of a library, such as torch's default dtype."""
    expect(
        not record.changes,
        f"to import {record.owner}",
        "; ".join(record.changes),
        "unchanged settings, which other plugins and users rely on",
    )


@check_callback("hookspecs.RunHooks")
def a_callback_changes_nothing(name: str) -> None:
    """A run with the callback ends exactly as a run without it."""
    alone, heard = TaskTrial(Specimen()), TaskTrial(Specimen(), callbacks=[name])
    training = Attempt(f"to train with and without callback {name!r}", "the same run")
    expect_same_runs(alone.short("alone"), heard.short("heard"), training)


RECORD_CHECKS = tuple(check_record)
CALLBACK_CHECKS = tuple(check_callback)

_KINDS: dict[str, tuple[Callable[[str, Any], Any], tuple[Check[Any], ...]]] = {
    "task": (lambda name, item: TaskTrial(item), TASK_CHECKS),
    "backbone": (lambda name, item: BackboneTrial(item), BACKBONE_CHECKS),
    "schedule": (lambda name, item: ScheduleTrial(item), SCHEDULE_CHECKS),
    "exporter": (lambda name, item: ExporterTrial(item), EXPORTER_CHECKS),
    "reader": (lambda name, item: ReaderTrial(item), READER_CHECKS),
    "adapter": (lambda name, item: AdapterTrial(name), ADAPTER_CHECKS),
    "scorer": (lambda name, item: ScorerTrial(name), SCORER_CHECKS),
    "text_encoder": (lambda name, item: TextEncoderTrial(item), TEXT_ENCODER_CHECKS),
    "callback": (lambda name, item: name, CALLBACK_CHECKS),
    "section": (lambda name, item: SectionTrial(item), SECTION_CHECKS),
    "loss": (lambda name, item: _loss_trial(name, item), TRANSFER_LOSS_CHECKS),
}


def check_plugin(name: str) -> Iterator[Result]:
    """Check everything that a plugin provides.

    Args:
        name: The plugin's name, or that of the distribution that ships it.

    Yields:
        The result of each check, as soon as it is known.

    Raises:
        PluginError: There is no such plugin, or it is disabled.
    """
    for record in _records(name):
        yield from run_all(f"plugin {record.name}", record, RECORD_CHECKS)
        for kind, names in record.provides.items():
            for one in names:
                yield from _check_item(kind, one, record)


def _records(name: str) -> list[PluginRecord]:
    records = plugins().records
    key = normalized(name)
    found = [r for r in records if normalized(r.name) == key]
    found = found or [r for r in records if normalized(r.distribution) == key]
    if not found:
        known = {word for r in records for word in (r.name, r.distribution) if word != "-"}
        raise PluginError(f"no plugin {name!r}{near_matches(name, known)}")
    for record in found:
        if record.blocked:
            raise PluginError(f"{record.owner} is disabled; enable it to check it")
    return found


def _check_item(kind: str, name: str, record: PluginRecord) -> Iterator[Result]:
    subject = f"{kind} {name or '(no prefix)'}"
    try:
        item = plugins().get(kind, name)
    except PluginError as error:
        yield Result(subject, "-", "not tried", str(error), 0.0)
        return
    make, checks = _KINDS[kind]
    try:
        trial = make(name, item)
    except NotTried as reason:
        yield Result(subject, "-", "not tried", str(reason), 0.0)
        return
    except (Exception, SystemExit) as error:  # third-party classes may raise anything
        message = f"it cannot be checked: {one_line(repr(error), LONGEST)}"
        yield Result(subject, "-", "failed", message, 0.0)
        return
    yield from run_all(subject, trial, checks)


def _loss_trial(name: str, kind: type[TransferLoss]) -> TransferLossTrial:
    needed = [
        p.name for p in options_of(kind) if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]
    if needed:
        raise NotTried(f"option {needed[0]!r} has no default")
    return TransferLossTrial(name)
