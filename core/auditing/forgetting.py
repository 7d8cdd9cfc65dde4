"""``forget``: the model that a run would have ended with, had it never seen some of its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visiongraft.config import FitConfig
from visiongraft.data.findings import content_digest
from visiongraft.errors import ArtifactError, DataError, OptionError, ReceiptError, name_some
from visiongraft.fitting import fit
from visiongraft.model import TransferModel
from visiongraft.options import checks_keywords
from visiongraft.preparation.leaving_out import settings_leaving_out
from visiongraft.saving.files import read_json, write_json
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.resuming.run_folder import check_run

RECORD = "forgotten.json"


@checks_keywords
def forget(run: str | Path, images: Sequence[str | Path], *, out: str | Path) -> TransferModel:
    """Train a run again without some of its images, such as those of a person who withdrew consent.

    This is exact unlearning: nothing is approximated, and the result is that of a ``fit`` with the settings
    of the run that leaves these images out (``leave_out``), bit for bit on a CPU.

    Args:
        run: The run folder; its data must be where they were, also those to forget.
        images: Image files, or folders of them, or digests as ``inputs.json`` of the run has them.
        out: Folder of the new run; ``forgotten.json`` in it tells what was left out, and that the frozen tensors of
            the receipts are those of the run.

    Returns:
        The model of the new run. Models, checkpoints and exported files of the old one are not touched: delete
        them, as well as shared features (``visiongraft cache clear``).

    Raises:
        ArtifactError: The folder is no run.
        DataError: A file does not exist, or was not among the images of the run.
        ReceiptError: The new run still used one of the images.

    Examples:
        ``visiongraft.forget("runs/flowers", ["flowers/train/rose/7.jpg"], out="runs/without")``
    """
    folder = Path(run)
    check_run(folder)
    config, inputs = FitConfig.read(folder), RunInputs.read(folder)
    if config.data is None:
        raise OptionError(
            f"run {folder} was trained on data in memory; train it again without the images"
        )
    if inputs is None:
        raise ArtifactError(f"{folder} has no inputs.json that tells what it was trained on")
    wanted = _digests(images, {each.image for part in inputs.samples.values() for each in part})
    values = settings_leaving_out(config, wanted)
    model = fit(values.pop("data"), out=out, callbacks=(), **values)
    write_json(Path(out) / RECORD, _proof(folder, Path(out), wanted))
    return model


def _digests(images: Sequence[str | Path], known: set[str]) -> list[str]:
    """Return the digests of images, and refuse those that a run has not used."""
    if isinstance(images, (str, Path)) or not images:
        raise OptionError("forget takes a list of images: forget(RUN, [IMAGE, ...], out=FOLDER)")
    found, strange = {}, []
    for image in images:
        for name, digest in _named_digests(image, known):
            found[digest] = name
            if digest not in known:
                strange.append(name)
    if strange:
        raise DataError(f"the run has not used {name_some(strange)}; nothing was trained")
    return sorted(found)


def _named_digests(image: str | Path, known: set[str]) -> Iterator[tuple[str, str]]:
    if str(image) in known:
        yield str(image), str(image)
        return
    path = Path(image)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        try:
            yield str(file), content_digest(file.read_bytes())
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error


def _proof(before: Path, after: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """Show from the files of both runs that the images were left out and nothing frozen differs."""
    inputs = RunInputs.read(after)
    assert inputs is not None
    used = {each.image for part in inputs.samples.values() for each in part}
    if left := used & set(wanted):
        raise ReceiptError(f"{after} still used the image {min(left)}")
    receipts = [read_json(folder / "receipts.json") for folder in (before, after)]
    frozen = [receipt[0]["frozen"] for receipt in receipts]
    return {
        "run": before.name,
        "images": list(wanted),
        "training_images": len(inputs.samples["training"]),
        "frozen_tensors": len(frozen[1]),
        "frozen_as_before": frozen[0] == frozen[1],
    }
