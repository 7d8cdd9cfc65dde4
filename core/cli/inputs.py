"""What a command is given to predict or embed: files, folders without their unreadable files, or drawn samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiongraft.errors import DataError, OptionError, name_some

if TYPE_CHECKING:
    from visiongraft.inputs import Inputs


def given_inputs(
    images: Sequence[Path], samples: int | None, seed: int, inputs: Inputs
) -> tuple[Sequence[Any], list[str]]:
    """Return what to predict, and the problems of what cannot be read."""
    if samples is None and not images:
        raise OptionError("pass image files or folders or, for a generator, --samples COUNT")
    if samples is None and inputs.drawn:
        raise OptionError(
            f"{inputs.name} are drawn; leave out {images[0]} and pass --samples COUNT"
        )
    if samples is None:
        return readable_inputs(images, inputs)
    if images:
        raise OptionError(f"--samples draws what to predict; leave out {images[0]}")
    return list(inputs.draw(samples, seed)), []


def skipped_line(unreadable: Sequence[str], inputs: Inputs) -> list[str]:
    """Return a warning that counts and names what was skipped; nothing if nothing was."""
    if not unreadable:
        return []
    count, problems = len(unreadable), name_some(unreadable)
    return [f"warning: unreadable {inputs.name} skipped: {count} ({problems})"]


def readable_inputs(given: Sequence[Path], inputs: Inputs) -> tuple[list[Path], list[str]]:
    """Return the given files and the readable images, or clips, of the given folders, sorted by name.

    The problems of the unreadable ones are returned too: one damaged file in a folder is skipped,
    while one that is named explicitly is an error.
    """
    from visiongraft.data.check import find_unreadable
    from visiongraft.inputs.samples import InputSamples

    paths: list[Path] = []
    unreadable: list[str] = []
    for path in given:
        if not path.is_dir():
            paths.append(path)
            continue
        found = inputs.find(path)
        problems = find_unreadable(InputSamples(found, inputs), inputs=inputs)
        readable = [file for i, file in enumerate(found) if i not in problems]
        if not readable:
            kind = inputs.name
            why = f"no readable {kind}: {name_some(problems.values())}" if found else f"no {kind}"
            raise DataError(f"{path} contains {why}; pass {kind[:-1]} files, or folders of {kind}")
        paths += readable
        unreadable += problems.values()
    return paths, unreadable
