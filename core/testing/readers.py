"""Checks of a data reader, with its example dataset."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from visiongraft.data.images import image_array
from visiongraft.data.readers import SPLIT_NAMES, DataReader, DataSplits, checked_splits
from visiongraft.data.samples import Samples
from visiongraft.errors import DataError
from visiongraft.registry.manager import plugins
from visiongraft.testing.equality import same
from visiongraft.testing.report import (
    Attempt,
    Check,
    Checks,
    NotTried,
    expect,
    refusing,
    require,
    trying,
)
from visiongraft.testing.tasks.data import expect_same_samples, expect_sample
from visiongraft.testing.tasks.trial import IMAGES
from visiongraft.testing.trials import NOISE, Trial, is_identifier, is_text, strange_data


class ReaderTrial(Trial):
    """A data reader under trial.

    Args:
        what: A reader, or the name of an installed one.
    """

    def __init__(self, what: str | DataReader) -> None:
        super().__init__(what)
        self.reader: DataReader = plugins().get("reader", what) if isinstance(what, str) else what

    @cached_property
    def example(self) -> Any:
        """The example dataset."""
        with trying("to create an example dataset", see="data.readers.DataReader.example_data"):
            return self.reader.example_data(self.folder("data"), IMAGES, 0)

    @cached_property
    def found(self) -> DataSplits:
        """The splits of the example dataset."""
        return self.read(self.example, "to read the example dataset")

    def read(self, data: Any, words: str) -> DataSplits:
        """Read data as tasks do."""
        with trying(words, "DataSplits", "data.readers.DataReader.read"):
            return checked_splits(self.reader, self.reader.read(data), data)

    def samples(self) -> Iterator[tuple[str, Samples]]:
        """Yield the splits that have samples."""
        return ((part, samples) for part, samples in self.found.splits.items() if len(samples))


check = Checks(ReaderTrial.of)


@check("data.readers.DataReader")
def declares_itself(trial: ReaderTrial) -> None:
    """The reader declares its name and the kind of its targets as identifiers."""
    for attribute in ("name", "targets"):
        value = getattr(trial.reader, attribute, None)
        expect(is_identifier(value), f"to read its {attribute}", repr(value), "an identifier")


@check("data.readers.DataReader.claims")
def only_its_own_data_is_claimed(trial: ReaderTrial) -> None:
    """``claims`` accepts the example dataset and nothing else, without errors and without decoding images."""
    folder = trial.folder("strange")
    (folder / "notes.txt").write_text("neither data nor images\n", encoding="utf-8")
    strange = {
        **strange_data(folder),
        "such a path as a string": str(folder / "nowhere"),
        "a text file": str(folder / "notes.txt"),
        "an empty string": "",
        "a string that is not a path": "no\0path: " + 5000 * "x",
        "an empty dict": {},
        "bytes": NOISE,
        "an array": np.zeros((2, 2)),
        "a pair": (folder / "nowhere", folder / "empty"),
        "any other object": object(),
    }
    words = "to ask whether it claims its example dataset"
    with trying(words, "yes") as asking, _no_decoding(words):
        claimed = trial.reader.claims(trial.example)
    asking.expect(claimed is True, repr(claimed), "True")
    for what, data in strange.items():
        with trying(f"to ask whether it claims {what}", "no") as asking:
            claimed = trial.reader.claims(data)
        asking.expect(claimed is False, repr(claimed), "False")


@check("data.readers.DataSplits")
def splits_are_found(trial: ReaderTrial) -> None:
    """Reading decodes no image, and returns valid splits, class names and warnings."""
    reading = Attempt("to read the example dataset")
    with _no_decoding(reading.tried):
        found = trial.read(trial.example, reading.tried)
    splits = f"splits {', '.join(found.splits) or 'none'}"
    expected = f"training samples in 'train'; other splits are {', '.join(SPLIT_NAMES[1:])}"
    reading.expect(len(found.splits.get("train", ())) > 0, splits, expected)
    for what, texts in (("names", found.names), ("warnings", found.warnings)):
        plain = isinstance(texts, tuple) and all(map(is_text, texts))
        reading.expect(plain, f"{what} {texts!r}", f"a tuple of strings as {what}")
    reading.expect(len(set(found.names)) == len(found.names), found.names, "each name once")
    lines = [text for text in found.warnings if "\n" in text]
    reading.expect(not lines, f"a warning {lines[:1]!r}", "one line each")


@check("data.samples.Samples.load")
def images_load(trial: ReaderTrial) -> None:
    """Every sample has a name and can be loaded, with the same result from its encoded content."""
    for part, samples in trial.samples():
        expect_sample(samples, part, 3)
        for i in range(len(samples)):
            words, see = f"to load image {i} of the {part} split", "data.samples.Samples.content"
            with trying(words) as loading:
                name, image, content = samples.name(i), samples.load(i), samples.content(i)
            loading.expect(is_text(name), repr(name), "a name")
            if content is None:
                continue
            with trying(f"{words} from its content", see=see) as decoding:
                decoded = image_array(Image.open(io.BytesIO(content)), name)
            decoding.expect(same(decoded, image), "another image", "the result of load")


@check("data.readers.DataSplits")
def targets_have_names(trial: ReaderTrial) -> None:
    """Labels are class names, or class ids in the order of the class names."""
    if trial.reader.targets != "labels":
        raise NotTried(f"targets of kind {trial.reader.targets!r} are checked by their task")
    names = trial.found.names
    for part, samples in trial.samples():
        for i in range(len(samples)):
            target = samples.target(i)
            name = Path(samples.name(i)).name
            reading = Attempt(f"to read the target of {name} in the {part} split")
            for label in target if isinstance(target, (tuple, list, set)) else (target,):
                plain = isinstance(label, (str, int)) and not isinstance(label, bool)
                reading.expect(plain, f"{target!r}", "one or several class names or ids")
                if names:
                    known = label in names if isinstance(label, str) else 0 <= label < len(names)
                    reading.expect(known, f"{label!r}", f"one of {', '.join(names)}, or a class id")


@check("data.readers.DataReader.read")
def reading_twice_gives_the_same(trial: ReaderTrial) -> None:
    """Reading the same data again returns the same splits in the same order."""
    again, see = trial.read(trial.example, "to read the data again"), "data.readers.DataReader.read"
    expect(
        (again.splits.keys(), again.names) == (trial.found.splits.keys(), trial.found.names),
        "to read the example dataset twice",
        f"splits {', '.join(again.splits)} and names {again.names} the second time",
        f"splits {', '.join(trial.found.splits)} and names {trial.found.names}",
    )
    for part, samples in trial.found.splits.items():
        expect_same_samples(samples, again.splits[part], part, see)


@check("data.samples.Samples")
def samples_can_be_sent_to_workers(trial: ReaderTrial) -> None:
    """Samples can be pickled for worker processes, and load the same images there."""
    for part, samples in trial.samples():
        words = f"to pickle the samples of the {part} split for a worker process"
        expected = "samples that can be pickled: no open file, no function"
        with trying(words, expected) as pickling:
            sent: Samples = pickle.loads(pickle.dumps(samples))
            image = sent.load(0)
        pickling.expect(same(image, samples.load(0)), "another image", "the same")


@check("data.readers.DataReader.read")
def damaged_data_raises_a_clear_error(trial: ReaderTrial) -> None:
    """Missing and damaged data raise a DataError with a one-line message, when read or loaded."""
    data = trial.example
    if not isinstance(data, (str, Path)):
        raise NotTried("the example dataset has no files that could be damaged")
    path = Path(data)
    folder = trial.folder("damaged")
    _expect_refusal(trial, data, folder / path.name, "data that does not exist", strict=True)
    if path.is_dir():
        (folder / "empty").mkdir()
        _expect_refusal(trial, data, folder / "empty", "an empty folder", strict=True)
        files = sorted(p for p in path.rglob("*") if p.is_file())
        kinds = {file.suffix: file for file in files}.values()
        damaged = [(folder / f"{i}" / path.name, file) for i, file in enumerate(kinds)]
        for copy, file in damaged:
            shutil.copytree(path, copy)
            (copy / file.relative_to(path)).write_bytes(NOISE)
            _expect_refusal(trial, data, copy, f"a folder in which {file.name} is noise")
        return
    beside = folder / "copy"
    shutil.copytree(path.parent, beside)
    copy, content = beside / path.name, path.read_bytes()
    for what, other in (
        ("an empty file", b""),
        ("a file of noise", NOISE),
        ("half of the file", content[: len(content) // 2]),
        ("a file whose middle is noise", _spoilt(content)),
    ):
        copy.write_bytes(other)
        _expect_refusal(trial, data, copy, what, strict=other in (b"", NOISE))


def _spoilt(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + (NOISE * (third // len(NOISE) + 1))[:third] + content[2 * third :]


def _expect_refusal(
    trial: ReaderTrial, example: Any, path: Path, what: str, strict: bool = False
) -> None:
    """Read and load; a DataError with a one-line message is allowed, and required if ``strict``."""
    words, expected = f"to read {what}, and its images", "a DataError that explains the problem"
    splits: dict[str, Samples] = {}
    with refusing(DataError, words, expected, required=strict):
        given = str(path) if isinstance(example, str) else path
        splits = checked_splits(trial.reader, trial.reader.read(given), given).splits
    for part, samples in splits.items():
        for i in range(len(samples)):
            tried = f"{words} (number {i} of {part})"
            with refusing(DataError, tried, expected, required=False):
                samples.load(i)


@contextmanager
def _no_decoding(words: str) -> Iterator[None]:
    """Raise a fault if pillow decodes an image within the block."""
    decoded: list[str] = []
    load = ImageFile.ImageFile.load

    def watched(image: ImageFile.ImageFile) -> Any:
        if image.tile:  # otherwise it is already decoded
            decoded.append(image.format or "?")
        return load(image)

    ImageFile.ImageFile.load = watched  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ImageFile.ImageFile.load = load  # type: ignore[method-assign]
    expect(not decoded, words, f"{len(decoded)} images decoded", "none")


READER_CHECKS: tuple[Check[Any], ...] = tuple(check)


def check_reader(what: str | DataReader) -> None:
    """Check everything that visiongraft requires of a data reader.

    Args:
        what: The reader, or the name of an installed one.

    Raises:
        CheckError: A check failed.
    """
    require(ReaderTrial.of(what), READER_CHECKS)
