"""A small sound data reader, which faulty plugins break: a file with one image and label per line."""

from pathlib import Path

import numpy as np
from PIL import Image

from visiongraft import hookimpl
from visiongraft.data.readers import DataReader, DataSplits
from visiongraft.data.samples import FileSamples
from visiongraft.errors import DataError

LABELS = ("cat", "dog")


class Lines(DataReader):
    """Reads .lines files."""

    name = "lines"
    targets = "labels"

    def claims(self, data):
        return isinstance(data, (str, Path)) and Path(data).suffix == f".{self.name}"

    def read(self, data):
        try:
            return self.parts(Path(data))
        except (OSError, ValueError) as error:
            raise DataError(f"{data} is no list of images and labels: {error}") from error

    def parts(self, path):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        files, labels = [path.parent / file for file, _ in rows], [label for _, label in rows]
        return DataSplits({"train": FileSamples(files, labels)}, tuple(sorted(set(labels))))

    def example_data(self, folder, count, seed):
        random, lines = np.random.default_rng(seed), []
        for number in range(count):
            pixels = random.integers(0, 256, (*random.integers(20, 60, 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            lines.append(f"{number}.png\t{LABELS[number % 2]}\n")
        path = folder / f"images.{self.name}"
        path.write_text("".join(lines), encoding="utf-8")
        return path


@hookimpl
def register_readers():
    return [Lines()]
