"""Writing the report of a run: right after it, and again with all images."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from visiongraft.config import FitConfig
from visiongraft.data.samples import Samples
from visiongraft.errors import ArtifactError, OptionError, VisiongraftError, one_line
from visiongraft.lookup.exported import openers
from visiongraft.lookup.reading import named_reader
from visiongraft.model import TransferModel, load
from visiongraft.options import check_choice, checks_keywords
from visiongraft.pages.page_path import ReportPage
from visiongraft.pages.parts import Section, Text
from visiongraft.pages.writing import check_page, render_page
from visiongraft.registry.manager import plugins
from visiongraft.reporting.contract import Projection, ReportedRun, ReportSection
from visiongraft.reporting.passes import watch
from visiongraft.saving.files import read_json, write_bytes
from visiongraft.saving.saved_config import read_config
from visiongraft.saving.saved_model import model_folder
from visiongraft.task import Task
from visiongraft.training.batches.own_augmentation import find_function, names_function
from visiongraft.training.resuming.run_samples import read_run_samples
from visiongraft.training.run import Run

log = logging.getLogger("visiongraft")

PAGE = "report.html"
REMARK = "Worst mistakes, a map of the images and more are added by another pass over the images"


@checks_keywords
def report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    exported: Sequence[str | Path] | None = None,
    projection: Projection = "pca",
    batch_size: int = 32,
    task: type[Task] | None = None,
) -> ReportPage:
    """Write the report of a finished run: one page of HTML that needs no other file and no network.

    Unlike the page that ``fit`` writes, it shows what all validation images tell: the worst mistakes, a
    map of the images, near-duplicates, and what tasks add.

    Args:
        run: The run folder.
        out: File to write; ``None`` for ``report.html`` in the run folder.
        exported: Files that the model was exported to, for their certificates; ``None`` for those in the
            run folder.
        projection: How the map is made: by principal components, or by ``"umap"`` (McInnes et al., 2018),
            which takes longer and needs ``pip install "visiongraft[umap]"``.
        batch_size: Images per forward pass.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The path of the file, which notebooks show as a page.

    Raises:
        ArtifactError: The folder is not that of a finished run.
        OptionError: ``out`` is no path of an HTML file, or UMAP is not installed.

    Examples:
        ``visiongraft.report("runs/flowers")``
    """
    check_choice("projection", projection, ("pca", "umap"))
    if projection == "umap" and find_spec("umap") is None:
        raise OptionError('projection="umap" needs pip install "visiongraft[umap]"')
    folder = Path(run)
    page = check_page(folder / PAGE if out is None else out)
    if model_folder(folder) == folder or not (folder / "metrics.jsonl").is_file():
        raise ArtifactError(f"{folder} is not the folder of a finished run; pass what fit wrote to")
    reported = _read_run(folder, load(folder, task=task), exported)
    reported.projection = projection
    write_bytes(page, render_report(reported, batch_size).encode())
    return ReportPage(page)


def write_finished(run: Run) -> Path:
    """Write the report of a run that has just ended, without looking at all images again."""
    assert run.folder is not None
    reported = ReportedRun(
        run.folder,
        run.config,
        run.network,
        read_config(model_folder(run.folder)).facts,
        run.history,
        run.state.receipts,
        run.training,
        run.validation,
        exported=_exported_in(run.folder),
        augment=run.augment,
        notes=[f"{REMARK}: visiongraft report {run.folder}"],
    )
    page = run.folder / PAGE
    write_bytes(page, render_report(reported).encode())
    return page


def render_report(run: ReportedRun, batch_size: int = 32) -> str:
    """Make the page of a run.

    A section that fails is shown with its error, and the others are made.

    Args:
        run: The run.
        batch_size: Images per forward pass.

    Returns:
        HTML.
    """
    kinds: list[type[ReportSection]] = sorted(
        plugins().report_sections().values(), key=lambda kind: (kind.position, kind.name)
    )
    looking = run.complete and run.validation is not None
    sections = [kind(run) for kind in kinds if looking or not kind.watches]
    failed: dict[str, str] = {}
    watching = [section for section in sections if section.watches]
    if watching and run.validation is not None:
        for results in watch(run.network, run.validation, batch_size):
            for section in watching:
                try:
                    section.update(results)
                except Exception as error:  # a plugin's own code may raise any error
                    failed.setdefault(section.name, _failure(section, error))
    made = []
    for section in sections:
        if section.name not in failed:
            try:
                parts = list(section.parts())
            except Exception as error:
                failed[section.name] = _failure(section, error)
        if section.name in failed:
            parts = [Text(failed[section.name])]
        if parts:
            made.append(Section(section.name, section.title, parts))
    info = run.network.backbone.info
    lead = f"{run.task.name} on {info.name}"
    if run.training and run.validation:
        counts = f"{len(run.training)} training and {len(run.validation)} validation"
        lead += f": {counts} {run.task.inputs.name}"
    return render_page(f"Run {run.folder.name}", made, [lead])


def _failure(section: ReportSection, error: Exception) -> str:
    text = f"This section could not be made: {one_line(error, None)}"
    log.warning(
        "section %r of the report could not be made: %s", section.name, one_line(error, None)
    )
    return text


def _read_run(
    folder: Path, model: TransferModel, exported: Sequence[str | Path] | None
) -> ReportedRun:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    run = ReportedRun(
        folder,
        FitConfig.read(folder),
        model.network,
        model.facts,
        [json.loads(line) for line in lines],
        read_json(folder / "receipts.json"),
        complete=True,
        exported=_exported_in(folder) if exported is None else list(map(Path, exported)),
    )
    try:
        if names_function(run.config.augment):
            run.augment = find_function(run.config.augment, None)
    except VisiongraftError as error:
        run.notes.append(f"Images are shown without augmentation: {error}")
    try:
        run.training, run.validation = _read_samples(run)
    except VisiongraftError as error:
        run.notes.append(f"The images are not shown, because the data cannot be read: {error}")
    return run


def _read_samples(run: ReportedRun) -> tuple[Samples | None, Samples | None]:
    config = run.config
    paths = config.data.values() if isinstance(config.data, dict) else [config.data]
    missing = [str(path) for path in paths if not path or not Path(named_reader(path)[1]).exists()]
    if missing:
        where = "they were in memory" if missing == ["None"] else f"{missing[0]} does not exist"
        run.notes.append(f"The images are not shown, because {where}.")
        return None, None
    channels = run.network.backbone.info.in_channels
    checked = read_run_samples(run.folder, config, run.task, channels)
    return checked.train, checked.validation


def _exported_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in openers())
