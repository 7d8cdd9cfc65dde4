"""``fit``: from data and a backbone's name to a trained model and its run folder."""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from visiongraft.config import FitConfig, differences
from visiongraft.data.check import CheckedSplits, check_samples
from visiongraft.data.samples import Splits
from visiongraft.errors import CheckpointError, OptionError, ScheduleError
from visiongraft.lookup import find_schedule, find_task, find_transfer_loss, load_backbone
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.preprocess import as_size
from visiongraft.registry.callbacks import listen
from visiongraft.registry.manager import plugins
from visiongraft.schedules import Schedule
from visiongraft.seeds import seed_everything
from visiongraft.task import Task, create_task
from visiongraft.task_contract import bound, check_task_class, read_splits
from visiongraft.training.checkpoint import Checkpoint
from visiongraft.training.devices import make_accelerator
from visiongraft.training.engine import Engine, Run
from visiongraft.training.freezing import trainable_stages
from visiongraft.training.optimizers import check_optimizer_name
from visiongraft.training.transfer_losses import Transfer

log = logging.getLogger("visiongraft")

GIGABYTE = 1_000_000_000


def fit(
    data: Any = None,
    *,
    task: str | Task | None = None,
    task_options: Mapping[str, Any] | None = None,
    backbone: str | Path = "bundled/efficientnet_lite0",
    weights: str | Path | None = "pretrained",
    schedule: str | Schedule = "lp_ft",
    epochs: int = 10,
    out: str | Path | None = None,
    validation: float = 0.2,
    size: int | tuple[int, int] | None = None,
    resize: str | None = None,
    in_channels: int = 3,
    batch_size: int = 32,
    learning_rate: float | None = None,
    optimizer: str = "adamw",
    weight_decay: float = 0.05,
    transfer_loss: str | None = None,
    views: int | None = None,
    replay: str | bool = "auto",
    replay_dtype: str = "float32",
    replay_budget: int = 8 * GIGABYTE,
    precision: str = "no",
    accumulate: int = 1,
    clip_norm: float | None = 1.0,
    ema: float | None = None,
    patience: int | None = None,
    checkpoint_every: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    seed: int = 0,
    resume: bool = False,
    callbacks: Sequence[str | object] = ("progress", "curves"),
) -> TransferModel:
    """Fine-tune a backbone for a task.

    Args:
        data: A path in one of the task's formats, a map-style dataset of (image, target), or a
            pair (training, validation) of either.
        task: A task's name, or a task with its options set.
        task_options: Options of a task given by name.
        backbone: Name of a backbone, or the folder of a saved model to start from.
        weights: ``"pretrained"``, ``None`` for random weights, or a weights file.
        schedule: Which stages train when: a name, a name with options such as
            ``"gradual(layer_decay=0.7)"``, or a schedule.
        epochs: Epochs of all phases together.
        out: Run folder; ``None`` keeps nothing on disk. Needed to resume.
        validation: Share held out where the data name no validation part, in (0, 1).
        size: Network input in pixels, one number or (height, width); the task's or else the
            backbone's if ``None``.
        resize: ``"crop"`` keeps the aspect ratio and takes the center, ``"stretch"`` takes the
            whole image, ``"pad"`` keeps its size; the task's or else the backbone's if ``None``.
        in_channels: Channels of the images: 3, 1 (gray) or what the data hold.
        batch_size: Images per forward pass and process.
        learning_rate: Peak learning rate of the schedule's main phases; its own if ``None``.
        optimizer: ``"adamw"`` or ``"sgd"``.
        weight_decay: Weight decay; never applied to biases and normalization weights.
        transfer_loss: What is added to the task's loss to tie the backbone to its pretrained self,
            such as ``"l2_sp(alpha=0.01)"``; ``None`` for nothing.
        views: Augment with this number of fixed views per image instead of anew each epoch, so
            that they can be replayed.
        replay: ``"auto"``, ``True`` or ``False``: store what frozen stages compute and play it back.
        replay_dtype: Type to store, ``"float32"`` or ``"float16"``.
        replay_budget: Disk space that replay may use, in bytes.
        precision: ``"no"``, ``"fp16"`` or ``"bf16"``: mixed precision in training.
        accumulate: Batches per optimizer step.
        clip_norm: Largest gradient norm; ``None`` clips nothing.
        ema: Decay of an average of the weights, such as 0.99; ``None`` for none. With it, the
            averaged weights are evaluated and saved.
        patience: Epochs without improvement after which a phase ends; ``None`` for never.
        checkpoint_every: Optimizer steps between checkpoints within an epoch; ``None`` for none
            within an epoch.
        workers: Processes that load images; chosen by the device if ``None``.
        device: ``"cpu"`` or ``"cuda"``; the best there is if ``None``.
        seed: Fixes everything random; on a CPU two equal runs give identical weights.
        resume: Go on where the run in ``out`` stopped; all settings come from there.
        callbacks: Names of callbacks, or objects that implement run hooks.

    Returns:
        The model of the best epoch.

    Raises:
        VisiongraftError: Some input is wrong, or a proof failed; the message says what to do.

    Examples:
        ``model = visiongraft.fit("flowers", task=MyTask(), out="runs/flowers")``
    """
    given = dict(locals())
    folder = None if out is None else Path(out)
    config, chosen, plan = _resumed(folder, given) if resume else _configured(given)
    accelerator = make_accelerator(config)
    with ExitStack() as stack:
        if folder is not None:
            if accelerator.is_main_process:
                _prepare_folder(folder, resume)
                stack.enter_context(_logging_to(folder / "run.log"))
            scratch = folder
        else:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        source = data if data is not None else config.data
        with accelerator.main_process_first():  # the others find its findings in the folder
            splits, checked = _read(source, chosen, config, folder)
        run = _build(config, bound(chosen, checked.train), plan, checked, folder, scratch)
        checkpoint = _checkpoint(folder) if resume else None
        run.warnings = (*splits.warnings, *checked.report.warnings)
        if resume and checkpoint is None:
            run.warnings += ("no checkpoint was written before the end; the run begins anew",)
        hooks = listen(callbacks)
        _check_first_phase(run)
        if folder is not None and accelerator.is_main_process and not resume:
            config.write(folder)  # only now: input that is refused leaves no run behind
        engine = Engine(run, hooks, accelerator)
        try:
            engine.train(checkpoint)
            run.network.transfer = None  # only training needs it, and its copy of the backbone
            facts = _facts(run, splits, checked)
            model = TransferModel(run.network, facts, checked.validation, folder, hooks)
            if folder is not None and engine.main:
                model.save(folder / "model")
            if engine.main:
                hooks.hook.run_finished(run=run)
        except BaseException as error:
            if engine.main:
                hooks.hook.run_failed(run=run, error=error)
            raise
        accelerator.wait_for_everyone()
    return model


# ---- settings ----


def _configured(given: dict[str, Any]) -> tuple[FitConfig, Task, Schedule]:
    task = _task(given["task"], given["task_options"])
    schedule = _schedule(given["schedule"], given["learning_rate"])
    values = {
        **{k: v for k, v in given.items() if k in FitConfig.__dataclass_fields__},
        "task": plugins().name_of("task", type(task)),
        "task_options": task.options(),
        "schedule": schedule.to_json(),
        "transfer_loss": _transfer_loss(given["transfer_loss"]),
    }
    return _config(values), task, schedule


def _schedule(what: Any, learning_rate: float | None) -> Schedule:
    schedule = find_schedule(what)
    return schedule if learning_rate is None else schedule(learning_rate=learning_rate)


def _transfer_loss(what: str | None) -> dict[str, Any] | None:
    return None if what is None else find_transfer_loss(what).to_json()


def _config(values: dict[str, Any]) -> FitConfig:
    """Make the config, paths as text and replay as a word."""
    data, replay = values["data"], values["replay"]
    values["data"] = str(data) if isinstance(data, (str, Path)) else None
    values["replay"] = {True: "on", False: "off"}.get(replay, replay)
    values["size"] = as_size(values["size"])
    values["backbone"] = str(values["backbone"])
    values["weights"] = None if values["weights"] is None else str(values["weights"])
    check_optimizer_name(values["optimizer"])
    _check_device(values["device"])
    return FitConfig(**values)


def _check_device(device: str | None) -> None:
    if device not in (None, "cpu", "cuda"):
        raise OptionError(f"device={device!r} is neither 'cpu' nor 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("device='cuda' was asked for, but torch finds no CUDA device here")


def _task(task: str | Task | None, options: Mapping[str, Any] | None) -> Task:
    if isinstance(task, Task):
        if options:
            raise OptionError("task_options go with a task's name; this task is an object already")
        check_task_class(type(task))
        return task
    names = sorted(plugins().tasks())
    if task is None:
        raise OptionError(f"say what to learn: task=NAME; there are: {', '.join(names)}")
    if not isinstance(task, str):
        raise OptionError(f"task={task!r} is neither a name nor a task; call a class to make one")
    kind: type[Task] = plugins().get("task", task)
    return create_task(kind, dict(options or {}))


def _resumed(folder: Path | None, given: dict[str, Any]) -> tuple[FitConfig, Task, Schedule]:
    """Take the settings of the run, and refuse a call that sets them otherwise."""
    if folder is None:
        raise CheckpointError("resume=True needs out=FOLDER, the run to go on with")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no run to resume; start one without resume=True")
    stored = FitConfig.read(folder)
    parameters = inspect.signature(fit).parameters
    defaults = {n: p.default for n, p in parameters.items()}
    called = {n: given[n] for n in parameters if given[n] is not defaults[n]}
    task = called.pop("task", None)
    if isinstance(task, Task):
        called["task"] = plugins().name_of("task", type(task))
        called["task_options"] = json.loads(json.dumps(task.options()))  # as config.json has them
        kind: type[Task] = type(task)
    else:
        how = "fit(..., resume=True, task=MyTask()), on the command line --plugin FILE.py"
        kind = find_task(stored.task, f"run {folder}", how)
        called |= {} if task is None else {"task": task}
        if "task_options" in called:  # those that are not given stay as they are
            options = {**stored.task_options, **called["task_options"]}
            called["task_options"] = create_task(kind, options).options()
    plan = _schedule(called.get("schedule", stored.schedule), called.get("learning_rate"))
    called["schedule"] = plan.to_json()
    if "transfer_loss" in called:
        called["transfer_loss"] = _transfer_loss(called["transfer_loss"])
    if "replay" in called:
        called["replay"] = {True: "on", False: "off"}.get(called["replay"], called["replay"])
    for name in ("data", "backbone", "weights"):
        if isinstance(called.get(name), Path):
            called[name] = str(called[name])
    if not isinstance(called.get("data"), str):
        called.pop("data", None)
    if "size" in called:
        called["size"] = as_size(called["size"])
    other = differences(called, stored, {})
    if other:
        raise CheckpointError(
            f"cannot resume {folder} with other settings: {'; '.join(other)}; leave them out, or "
            "start another run"
        )
    if stored.data is None and given["data"] is None:
        raise CheckpointError(
            f"run {folder} was made from data in memory: pass the same data again"
        )
    _check_device(stored.device)
    return stored, create_task(kind, stored.task_options), plan


# ---- the run's folder ----


def _prepare_folder(folder: Path, resume: bool) -> None:
    if not resume and (folder / "config.json").exists():
        raise OptionError(
            f"{folder} already holds a run; pass resume=True (--resume) to go on with it, or "
            "choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{folder} cannot be made: {error.strerror or error}") from error


def _checkpoint(folder: Path | None) -> Checkpoint | None:
    """Read the last checkpoint; a run that was stopped before its first one begins anew."""
    if folder is None or not (folder / "checkpoints" / "last.safetensors").is_file():
        return None
    return Checkpoint.read(folder / "checkpoints" / "last.safetensors")


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


# ---- building the run ----


def _read(
    data: Any, task: Task, config: FitConfig, folder: Path | None
) -> tuple[Splits, CheckedSplits]:
    if data is None:
        raise OptionError("say what to learn from: a path, a dataset, or (training, validation)")
    splits = read_splits(task, data, config.validation, config.seed)
    checked = check_samples(
        splits.train,
        splits.validation,
        channels=config.in_channels,
        cache=None if folder is None else folder / "data-check.json",
    )
    return splits, checked


def _build(
    config: FitConfig,
    task: Task,
    schedule: Schedule,
    checked: CheckedSplits,
    folder: Path | None,
    scratch: Path,
) -> Run:
    seed_everything(config.seed)
    backbone = load_backbone(
        config.backbone,
        config.weights,
        in_channels=config.in_channels,
        size=config.size or task.input_size,
    )
    resize = config.resize or task.resize
    if resize is not None:
        preprocess = replace(backbone.info.preprocess, resize=resize)
        backbone.info = replace(backbone.info, preprocess=preprocess)
    network = Network(backbone, task)
    if config.transfer_loss is not None:
        network.transfer = Transfer(find_transfer_loss(config.transfer_loss), backbone)
    return Run(
        config=config,
        network=network,
        schedule=schedule,
        training=checked.train,
        validation=checked.validation,
        folder=folder,
        scratch=scratch,
    )


def _check_first_phase(run: Run) -> None:
    """Refuse a schedule that does not fit the backbone before the run leaves a trace."""
    stages = run.network.backbone.stages
    phase = next(run.schedule.phases(stages, run.config.epochs), None)
    if phase is None:
        raise ScheduleError(f"schedule {run.schedule.name!r} has no phase")
    trainable_stages(stages, phase.trainable)


def _facts(run: Run, splits: Splits, checked: CheckedSplits) -> dict[str, Any]:
    best = run.state.best or {}
    phases: dict[int, dict[str, Any]] = {}
    for record in run.history:
        phase = phases.setdefault(record["phase"], {"trainable": record["trainable"], "epochs": 0})
        phase["epochs"] += 1
    config = asdict(run.config)
    settings = ["epochs", "batch_size", "optimizer", "weight_decay", "precision", "ema", "seed"]
    settings += ["transfer_loss"] if run.config.transfer_loss else []
    return {
        "data": {**splits.facts, **checked.report.counts()},
        "training": {
            "schedule": config["schedule"],
            "phases": list(phases.values()),
            **{name: config[name] for name in settings},
        },
        "metrics": {"epoch": best.get("epoch"), **best.get("results", {})},
        "receipts": {
            f"phase {r['phase']}": f"{len(r['frozen'])} frozen tensors unchanged, "
            f"{r['modules_in_eval']} modules kept in evaluation mode"
            for r in run.state.receipts
        },
    }
