"""What a run computes from: samples, weights files, plugin code; compared when it is resumed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from visiongraft.data.check import SampleDigests
from visiongraft.errors import ArtifactError, CheckpointError, name_some, one_line
from visiongraft.saving.classes import is_class
from visiongraft.saving.files import read_json, through_json, write_json

FILE = "inputs.json"
FORMAT = 1
TRAINED_ON = ("training", "stream")  # how names of datasets begin whose images are trained on
LONGEST = 60  # characters of an option's value in a message

Splits = Mapping[str, Sequence[SampleDigests]]


@dataclass(frozen=True)
class RunInputs:
    """What a run computes from, as digests; names are for messages only.

    Attributes:
        samples: The readable samples by split, in their order.
        task_options: Options of the task once it knows the dataset, such as its class names.
        weights: SHA-256 of each weights file, by the setting that names it.
        code: SHA-256 of the source of the task, the backbone, the schedule and the transfer loss,
            by module.
        changes: One entry per resumption with other samples or weights: ``epoch``, from which they
            were used, and ``changes``, one line each.
        classes: Where task, backbone, schedule and transfer loss are defined, by setting.
        earlier: Hashes of images that were in training before such a change, and no longer are.
        transfer_source: SHA-256 of the networks that transfer losses compare with.
    """

    samples: Splits
    task_options: Mapping[str, Any]
    weights: Mapping[str, str]
    code: Mapping[str, str]
    changes: Sequence[Mapping[str, Any]] = field(default=())
    classes: Mapping[str, str] = field(default_factory=dict)
    earlier: Sequence[str] = field(default=())
    transfer_source: str | None = None

    def write(self, folder: Path) -> None:
        """Write the file into a run folder."""
        values = {
            **asdict(self),
            "samples": {s: [" ".join(each) for each in part] for s, part in self.samples.items()},
            "task_options": through_json(self.task_options),
        }
        write_json(folder / FILE, {"format": FORMAT, **values})

    @classmethod
    def read(cls, folder: Path) -> RunInputs | None:
        """Read what ``write`` wrote.

        Args:
            folder: The run folder.

        Returns:
            The inputs; ``None`` if the file is missing, damaged or of another version.
        """
        try:
            values = read_json(folder / FILE)
            if values.pop("format") != FORMAT:
                return None
            values["samples"] = {
                split: [SampleDigests(*line.split(" ", 2)) for line in lines]
                for split, lines in values["samples"].items()
            }
            values["earlier"] = tuple(values.get("earlier", ()))
            inputs = cls(**values)
            for digest in inputs.trained_on():
                int(digest, 16)
            return inputs
        except (ArtifactError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def trained_on(self) -> list[str]:
        """Return the hashes of all images that were in training, now or before a change."""
        used = [part for name, part in self.samples.items() if name.partition(" ")[0] in TRAINED_ON]
        return [*(each.image for part in used for each in part), *self.earlier]

    def changes_since(self, before: RunInputs) -> list[str]:
        """Describe what differs in samples, classes and weights.

        Args:
            before: What the run computed from.

        Returns:
            One part of a sentence per kind of difference; empty if there is none.
        """
        samples = list(_changed_samples(before.samples, self.samples))
        options = list(changed_options(before.task_options, through_json(self.task_options)))
        weights = [
            f"the file of {name} has other content"
            for name, digest in self.weights.items()
            if before.weights.get(name, digest) != digest
        ]
        source = [
            "the transfer losses compare with other weights"
            for digest in (self.transfer_source,)
            if before.transfer_source not in (digest, None)
        ]
        return [*samples, *options, *weights, *source]

    def changed_code(self, before: RunInputs) -> list[str]:
        """Return the names of modules whose source differs."""
        both = self.code.keys() & before.code.keys()
        return sorted(name for name in both if self.code[name] != before.code[name])


def inputs_on_resume(
    now: RunInputs, folder: Path, epoch: int, allowed: bool, comparable: bool
) -> tuple[RunInputs, list[str]]:
    """Compare the inputs of a resumed run with those that it began with.

    Args:
        now: The present inputs.
        folder: The run folder.
        epoch: The first epoch that will use them.
        allowed: Accept other samples and weights.
        comparable: Whether samples that are loaded twice are equal; otherwise they are not compared.

    Returns:
        The inputs with the changes of the run so far, and one warning a line.

    Raises:
        CheckpointError: Samples, class names or weights differ or cannot be compared, and that is
            not allowed; or the task, backbone, schedule or transfer loss is another one of the same
            name.
    """
    before = RunInputs.read(folder)
    if before is None:
        cause = (
            f"{folder / FILE} is missing, damaged or of another version: whether data, weights and "
            "code are those that the run began with cannot be checked"
        )
        if not allowed:
            raise CheckpointError(
                f"cannot resume {folder}: {cause}; restore the file, start a new run, or accept any "
                "data with allow_changed_data=True (--allow-changed-data)"
            )
        return now, [cause]
    _check_classes(now, before, folder)
    warnings = []
    if not comparable:
        now = replace(now, samples=before.samples)
        warnings.append(
            "images in memory differ each time they are loaded, so whether they are those that the "
            "run began with cannot be checked"
        )
    changes = now.changes_since(before)
    if changes and not allowed:
        raise CheckpointError(
            f"cannot resume {folder}: since the run began, {'; '.join(changes)}; restore that, start "
            "a new run, or accept it with allow_changed_data=True (--allow-changed-data)"
        )
    if changes:
        warnings.append(f"the run goes on with changed data: {'; '.join(changes)}")
    code = now.changed_code(before)
    if code:
        warnings.append(
            f"the code of {name_some(code)} has changed since the run began; from here on the run "
            "uses the new code"
        )
    return _continued(now, before, epoch, changes), warnings


def _check_classes(now: RunInputs, before: RunInputs, folder: Path) -> None:
    for setting, present in now.classes.items():
        recorded = before.classes.get(setting, present)
        if not is_class(recorded, present):
            how = setting if setting.isidentifier() else f"{setting.partition(' ')[0]}s"
            raise CheckpointError(
                f"cannot resume {folder}: its {setting} is {recorded}, and what has that name here is "
                f"{present}; pass the same one, fit(..., resume=True, {how}=...)"
            )


def _continued(now: RunInputs, before: RunInputs, epoch: int, changes: Sequence[str]) -> RunInputs:
    """Return the present inputs with what the run computed from before."""
    entry = [{"epoch": epoch, "changes": changes}] if changes else []
    return replace(
        now,
        code=before.code,
        changes=[*before.changes, *entry],
        earlier=tuple(sorted({*before.trained_on()} - set(now.trained_on()))),
    )


# ---- samples ----


def _changed_samples(before: Splits, after: Splits) -> Iterator[str]:
    if _contents(before) == _contents(after):
        return
    old, new = _by_image(before), _by_image(after)
    old_names, new_names = _short_names(before), _short_names(after)
    gone = {old_names[each.name] for image in old.keys() - new.keys() for each in old[image]}
    came = {new_names[each.name] for image in new.keys() - old.keys() for each in new[image]}
    both = old.keys() & new.keys()
    relabeled = {
        new_names[each.name]
        for image in both
        if _targets(old[image]) != _targets(new[image])
        for each in new[image]
    }
    repeated = {
        new_names[new[image][0].name] for image in both if len(old[image]) != len(new[image])
    }
    kinds = {
        "added": came - gone,
        "removed": gone - came,
        "with other content": gone & came,
        "with another label or annotation": relabeled - repeated,
        "listed another number of times": repeated,
    }
    if not any(kinds.values()):
        kinds["in another split"] = _in_another_split(before, after, new_names)
    if not any(kinds.values()):
        kinds["at another position"] = _at_another_position(before, after, new_names)
    for kind, names in kinds.items():
        if names:
            images = "image" if len(names) == 1 else "images"
            yield f"{len(names)} {images} {kind} ({name_some(sorted(names))})"


def _contents(splits: Splits) -> dict[str, list[tuple[str, str]]]:
    return {split: [(each.image, each.target) for each in part] for split, part in splits.items()}


def _by_image(splits: Splits) -> dict[str, list[SampleDigests]]:
    found: dict[str, list[SampleDigests]] = {}
    for part in splits.values():
        for each in part:
            found.setdefault(each.image, []).append(each)
    return found


def _targets(samples: Iterable[SampleDigests]) -> set[str]:
    return {each.target for each in samples}


def _in_another_split(before: Splits, after: Splits, names: Mapping[str, str]) -> set[str]:
    old = {split: {each.image for each in part} for split, part in before.items()}
    return {
        names[each.name]
        for split, part in after.items()
        for each in part
        if each.image not in old.get(split, ())
    }


def _at_another_position(before: Splits, after: Splits, names: Mapping[str, str]) -> set[str]:
    return {
        names[each.name]
        for split, part in after.items()
        for old, each in zip(before.get(split, ()), part, strict=False)
        if old[:2] != each[:2]
    }


def _short_names(splits: Splits) -> dict[str, str]:
    """Return names without the folder that all of them share, so that moved ones compare equal."""
    names = [each.name for part in splits.values() for each in part]
    try:
        shared = os.path.commonpath([os.path.dirname(name) for name in names])
    except ValueError:  # there are none, or absolute and relative ones
        shared = ""
    return {name: os.path.relpath(name, shared) if shared else name for name in names}


# ---- options of the task ----


def changed_options(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Describe how options, as JSON values, differ.

    Args:
        before: Values by name.
        after: Other values by name.

    Yields:
        One part of a sentence per option.
    """
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            gone = [repr(value) for value in old if value not in new]
            came = [repr(value) for value in new if value not in old]
            if gone or came:
                lost = f" without {name_some(gone)}" if gone else ""
                more = f" with {name_some(came)}" if came else ""
                yield f"{name}{lost}{more}"
                continue
        yield f"{name}={one_line(repr(new), LONGEST)} instead of {one_line(repr(old), LONGEST)}"
