"""``fit``: from a dataset and the name of a backbone to a trained model and its run folder."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import pluggy
from accelerate import Accelerator
from torch import nn

from visiongraft.adaptation.networks import has_its_base
from visiongraft.advice.choosing import recommend_schedule, use_schedule
from visiongraft.config import AUTO, GIGABYTE, Device, FitConfig, Precision, Replay, ReplayDtype
from visiongraft.errors import OptionError, VisiongraftError
from visiongraft.lookup.tasks import place_of_task_option
from visiongraft.model import TransferModel
from visiongraft.options import checks_keywords
from visiongraft.preparation.arguments import (
    given_groups,
    new_settings,
    with_task_augmentation,
)
from visiongraft.preparation.building import check_streams, prepare_run
from visiongraft.preparation.datasets import Given, RunData
from visiongraft.preparation.facts import run_facts
from visiongraft.preparation.inputs import images_of_run, images_of_start, inputs_of
from visiongraft.preparation.resumed import (
    merged,
    read_checkpoint,
    resumed_inputs,
    resumed_settings,
)
from visiongraft.preparation.starting import find_start
from visiongraft.privacy import Privacy
from visiongraft.registry.callbacks import listen
from visiongraft.saving.training_images import TrainingImages
from visiongraft.schedules import Schedule
from visiongraft.system.interrupts import work_started
from visiongraft.system.processes import as_lost_process
from visiongraft.system.progress import current_display, shown_progress
from visiongraft.task import Task
from visiongraft.training.callbacks import ConsoleProgress, shows_progress
from visiongraft.training.engine import Engine
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.grouped.weights import begin_groups, check_groups
from visiongraft.training.measuring.own_metrics import read_metrics
from visiongraft.training.private.accounting import begin_privacy
from visiongraft.training.private.refusals import refuse_settings
from visiongraft.training.resuming.chosen_callbacks import ChosenCallbacks
from visiongraft.training.resuming.inputs import RunInputs
from visiongraft.training.resuming.run_folder import CONFIG, give_up, run_folder, scratch_folder
from visiongraft.training.run import Run
from visiongraft.training.trackers import find_trackers
from visiongraft.training.transfer_losses import TransferChoice
from visiongraft.training.weights.head_start import fit_schedule_to_head
from visiongraft.tuning.batch_finder import set_batch_size
from visiongraft.tuning.plans import refuse_idle_losses
from visiongraft.tuning.strengths import Strengths, settings_of_trials
from visiongraft.tuning.time_budget import plan_epochs, use_budget

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _checks_settings(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Refuse unknown keyword arguments; of an option of a task the message says how it is passed."""
    return checks_keywords(function, place_of_task_option)


@_checks_settings
def fit(
    data: Any = None,
    *,
    task: str | Task | None = None,
    task_options: Mapping[str, Any] | None = None,
    backbone: str | Path | nn.Module = "bundled/efficientnet_lite0",
    weights: str | Path | None = "pretrained",
    partial: bool = False,
    weights_license: str | None = None,
    start: str | Path | TransferModel | None = None,
    schedule: str | Schedule = "lp_ft",
    epochs: int | None = None,
    budget: float | str | None = None,
    out: str | Path | None = None,
    validation: float | Literal["nested"] = 0.2,
    leave_out: list[str] | None = None,
    data_license: str | None = None,
    groups: str | Path | Callable[[str], str] | None = None,
    group_training: str | None = None,
    evaluate_on: Mapping[str, Any] | None = None,
    select: str = "best",
    streams: Mapping[str, Any] | None = None,
    metrics: Any = None,
    augment: str | Callable[..., Any] | None = None,
    size: int | tuple[int, int] | None = None,
    resize: str | None = None,
    in_channels: int = 3,
    batch_size: int | Literal["auto"] | None = None,
    learning_rate: float | None = None,
    optimizer: str = "adamw",
    weight_decay: float = 0.05,
    transfer_loss: str | TransferChoice | Sequence[str | TransferChoice] | None = None,
    adapters: str | Sequence[str] | None = None,
    views: int | None = None,
    replay: Replay | bool = "auto",
    replay_dtype: ReplayDtype = "float32",
    replay_budget: int = 8 * GIGABYTE,
    replay_shared: bool = True,
    precision: Precision = "no",
    accumulate: int = 1,
    gradient_checkpointing: bool = False,
    clip_norm: float | None = 1.0,
    privacy: str | Privacy | None = None,
    ema: float | None = None,
    swa: int | None = None,
    wise_ft: int | None = None,
    patience: int | None = None,
    checkpoint_every: int | None = None,
    keep_epochs: int | None = None,
    workers: int | None = None,
    device: Device | None = None,
    seed: int = 0,
    resume: bool = False,
    allow_changed_data: bool = False,
    callbacks: Sequence[str | object] = ("progress", "curves", "report"),
    trackers: Sequence[str | object] = (),
) -> TransferModel:
    """Fine-tune a pretrained backbone for a task.

    Args:
        data: Path of a dataset in one of the task's formats, a map-style dataset of (image, target)
            pairs, or a tuple (training, validation) of either.
        task: Name of the task, as listed by ``visiongraft tasks``, or a .toml or .yaml file with the heads of several
            tasks; or a task object. ``None`` for the only installed task that claims the data.
        task_options: Options of the task, if it is passed by name.
        backbone: Name of a backbone, as listed by ``visiongraft backbones``, or the folder of a
            saved model to start from. Or a network, which is copied, see ``ModuleBackbone``; its own weights
            are the ``"pretrained"`` ones.
        weights: Initial weights: ``"pretrained"``, ``None`` (random), or a weights file.
        partial: Load the tensors of a weights file that fit the backbone, if not all do; the log counts them by
            stage.
        weights_license: License of the weights file, such as ``"MIT"``, which models and exported files then state;
            ``None`` for the one that a safetensors file states.
        start: Folder of a saved model or a run, or file of published weights, to continue with: task, backbone
            and head, as well as preprocessing; or the model itself. A file is what ``assemble`` makes a model of. Of
            a head for other classes everything is kept that does not depend on them. The schedule
            ``"full"`` trains all of it from the beginning.
        schedule: Which stages are trained when: a name listed by ``visiongraft schedules``, with or
            without options, such as ``"gradual(layer_decay=0.7)"``; ``"auto"`` chooses by a linear probe
            on features of the training images, and stores the choice. Or a schedule object.
        epochs: Total number of epochs over all phases; ``None`` for 10, or as many as the budget allows.
        budget: Time that the run may take, such as ``"90s"``, ``"10min"`` or ``"1h30m"``; the number of
            epochs is chosen to fit, by measuring a few steps of each phase, and stored. A number is in
            seconds.
        out: Run folder to write; ``None`` keeps nothing on disk. Required to resume.
        validation: Fraction of the images held out for validation if the dataset has no validation
            split, or ``"nested"``: 0.2, and an estimate of what the best epoch is worth on other images,
            from folds of the validation images, each measured at the epoch that the others choose.
        leave_out: Digests of images of the dataset that are not used, as ``inputs.json`` of a run has them, such
            as those of people who withdrew; see ``forget``.
        data_license: License of the training images, such as ``"CC-BY-NC-4.0"``, which models and exported files then
            state, with warnings of what it forbids; ``None`` for what the card of the dataset states, ``README.md`` in
            its folder.
        groups: Groups of images that are measured each by itself: an attribute of the samples, such as a further
            column of a table, or a .csv file with the columns ``path`` and ``group``; or a function from the name of a
            sample, such as its path, to its group, which a resumed run must be passed again. The metric
            ``worst_group_...`` is the headline of the worst group; ``select`` may name it.
        group_training: How groups share the loss: ``"reweight"`` lets each count alike, ``"group_dro"`` or
            ``"group_dro(step_size=0.05)"`` lets those with a high loss count most. ``None`` lets each image count alike.
        evaluate_on: Further labeled datasets to evaluate after each epoch, by name, each in any form
            that ``data`` takes.
        select: Which epoch to keep: ``"best"``, ``"last"``, or the best that satisfies conditions,
            such as ``"best(anchors.accuracy >= -0.02)"``; a signed number is relative to the value
            before training; or ``"lowest(SET.METRIC)"`` or ``"highest(SET.METRIC)"``, such as
            ``"lowest(unlabelled.class_confusion)"``. If no epoch does, a warning says so and the closest one
            is kept. With ``confidence=0.95`` after the conditions, they hold for images like those of the
            set with this probability.
        streams: Further data for the training steps, as far as the task or a transfer loss uses any, by
            name, such as ``{"unlabelled": "photos/"}``.
        metrics: Metrics of torchmetrics beside the task's, such as ``"MulticlassAUROC"`` or
            ``"auroc=MulticlassAUROC(average=none)"``: an object or a name, a list of these, or a dict from names to
            them. ``select`` may name them. A resumed run must be passed objects again.
        augment: Augmentation of training images in place of the task's: ``"FILE.py:NAME"``, a callable of a file,
            or a value of the task's option ``augment``, such as ``"strong"``; or a callable, such as a transform of
            ``torchvision.transforms.v2`` or a ``Compose`` of albumentations. It takes an image, uint8 (C, H, W), and
            returns one; where targets have positions, it takes and returns these, too. A resumed run must be
            passed an object again.
        size: Network input size in pixels, one number or height and width; ``None`` for the task's,
            otherwise the backbone's.
        resize: How images are resized: ``"crop"`` keeps the aspect ratio and takes the center,
            ``"stretch"`` takes the whole image, ``"letterbox"`` keeps the aspect ratio of the whole
            image and fills it up, ``"pad"`` keeps the image size; ``None`` for the task's, otherwise
            the backbone's.
        in_channels: Number of image channels: 3, 1 (grayscale), or as many as the dataset has.
        batch_size: Batch size per process; ``"auto"`` measures it: on a GPU the largest one that fits
            into memory, on a CPU the smallest one of nearly the highest throughput. ``None`` for 8 over
            all processes with fewer than 256 training images, 16 with fewer than 512, otherwise, and if
            samples of a batch are compared, 32. The run stores the number.
        learning_rate: Peak learning rate of the schedule's main phases; ``None`` for the schedule's
            own.
        optimizer: Optimizer, with or without options: ``"adamw"``, ``"sgd(momentum=0.8)"``, or one
            of a plugin.
        weight_decay: Weight decay, never applied to biases and normalization weights.
        transfer_loss: Regularizers towards the pretrained network, such as ``"l2_sp(alpha=0.01)"``:
            one, a list of several, or ``None``. Of a list of strengths, as in ``"l2_sp(alpha=[0.01, 0.1])"``,
            each is trained, and what ``select`` prefers is kept.
        adapters: Adapters that train in place of the backbone's weights, such as ``"lora(rank=8)"``, as
            listed by ``visiongraft adapters``: one, a list of several, or ``None``. The rest of the
            backbone stays frozen.
        views: Number of fixed augmented views per image, whose features can be cached; ``None``
            augments anew in every epoch.
        replay: Feature caching: store the output of the frozen stages and reuse it in later epochs.
            ``"auto"`` does so where it is possible and worthwhile; ``True`` and ``False`` are
            ``"on"`` and ``"off"``.
        replay_dtype: Data type of the cached features, ``"float32"`` or ``"float16"``.
        replay_budget: Disk space that the feature cache may use, in bytes.
        replay_shared: Keep cached features in the user's cache folder and share them between runs: a
            run on the same images and weights then starts at once.
        precision: Mixed precision in training: ``"no"``, ``"fp16"`` or ``"bf16"``.
        accumulate: Gradient accumulation steps.
        gradient_checkpointing: Recompute activations of the backbone in the backward pass, for less
            memory and slower steps; results are the same.
        clip_norm: Maximum gradient norm; ``None`` disables clipping.
        privacy: Differential privacy of the training images, such as ``"epsilon=3,delta=1e-5"`` or
            ``Privacy(epsilon=3, delta=1e-5)``: gradients of single images are clipped and noised.
        ema: Decay of an exponential moving average (EMA) of the weights, such as 0.99; the averaged
            weights are evaluated and saved. ``None`` disables averaging.
        swa: Number of last epochs at whose ends the weights are averaged (stochastic weight averaging);
            the learning rate stays constant in them, and the average is evaluated and saved. ``None``
            disables averaging.
        wise_ft: Number of steps from the weights of ``start`` to those of each epoch, each of which may be
            kept (WiSE-FT), such as 5 for alpha 0, 0.2, ..., 1; ``None`` keeps those of epochs only.
        patience: Epochs without improvement after which a phase ends; ``None`` never ends it early.
        checkpoint_every: Optimizer steps between checkpoints within an epoch; ``None`` saves a
            checkpoint only after each epoch.
        keep_epochs: Number of last epochs whose weights are kept in the run folder, for soups of them;
            ``None`` keeps the best epoch's alone.
        workers: Number of processes that load images; ``None`` chooses it for the device.
        device: Device to train on, ``"cpu"`` or ``"cuda"``; ``None`` uses CUDA if it is available.
        seed: Seed of all random numbers; on a CPU two equal runs end with identical weights.
        resume: Continue the run in ``out`` where it stopped, with all of its settings. Data and
            weights files may have moved, but must have the contents that they had.
        allow_changed_data: Continue also with changed data and weights, with which transfer losses then
            compare.
        callbacks: Names of callbacks, objects that implement run hooks, or functions that are called
            after each epoch with its record, a line of ``metrics.jsonl``. A resumed run has the callbacks that
            it began with by name.
        trackers: Experiment trackers: ``"tensorboard"``, ``"wandb"``, ``"mlflow"``, ``"trackio"``, or trackers of
            Accelerate. A resumed run continues the runs of its trackers.

    Returns:
        The model of the best epoch.

    Raises:
        VisiongraftError: An argument or the dataset is invalid, or a proof failed; the message says
            what to do.

    Examples:
        ``model = visiongraft.fit("flowers", task=MyTask(), out="runs/flowers")``
    """
    given, started = with_task_augmentation(locals()), time.monotonic()
    folder = None if out is None else Path(out)
    listeners, lost = ChosenCallbacks(callbacks, trackers), tuple[str, ...]()
    if resume:
        defaults = {n: p.default for n, p in inspect.signature(fit).parameters.items()}
        listeners, lost = ChosenCallbacks.on_resume(folder, given, defaults)
        config, chosen, plan = resumed_settings(folder, given, defaults)
        origin = None
    else:
        origin = find_start(given)
        config, chosen, plan = new_settings(given, origin)
    trials = settings_of_trials(config)
    if config.keep_epochs and folder is None:
        raise OptionError("keep_epochs keeps weights in the run folder; pass out=FOLDER")
    check_streams(config, chosen)
    accelerator = make_accelerator(config)
    work_started()
    shows = "progress" in listeners.callbacks and accelerator.is_main_process
    with ExitStack() as stack, shown_progress(shows):
        if folder is None:
            scratch = stack.enter_context(scratch_folder())
        else:
            scratch = folder
            if accelerator.is_main_process:
                stack.enter_context(run_folder(folder, resume))
        sources = Given(
            data if data is not None else config.data,
            evaluate_on=merged(config.evaluate_on, evaluate_on),
            streams=merged(config.streams, streams),
            start=origin,
            backbone=backbone if isinstance(backbone, nn.Module) else None,
            metrics=merged(config.metrics, read_metrics(metrics)),
            augment=augment,
        )
        run, found = prepare_run(sources, chosen, trials[0], plan, accelerator, folder, scratch)
        run.warnings += lost
        hooks = listen([*listeners.callbacks, *find_trackers(listeners.trackers)])
        if resume and current_display() is not None and not shows_progress(hooks):
            hooks.register(ConsoleProgress())  # a command shows it of runs that began without, too
        if not resume:
            _measure_settings(run, given, accelerator, started)
            refuse_idle_losses(run)
        inputs, before = inputs_of(run, found), images_of_start(run)
        common = _Common(
            found, inputs, before, listeners, hooks, resume, allow_changed_data, groups
        )
        if len(trials) == 1:
            return common.train(run, accelerator, folder)
        return common.train_each(Strengths(run, config, trials, found, sources.backbone), folder)


@dataclass(frozen=True)
class _Common:
    """What the trainings of a call have in common; usually there is a single one.

    Attributes:
        data: Their data.
        inputs: What they compute from.
        before: The images that the model to start from was trained on.
        listeners: What their callbacks are, for when they are resumed.
        hooks: Their callbacks.
        resume: Whether to go on with what is in their folders.
        allow_changed_data: Whether to do so with other data, too.
        groups: What defines the groups of images, as the user passed it.
    """

    data: RunData
    inputs: RunInputs
    before: TrainingImages | None
    listeners: ChosenCallbacks
    hooks: pluggy.PluginManager
    resume: bool
    allow_changed_data: bool
    groups: Any

    def train(
        self,
        run: Run,
        accelerator: Accelerator,
        begun: Path | None,
        whole: FitConfig | None = None,
    ) -> TransferModel:
        """Train from the beginning or from a checkpoint, and save the model.

        Args:
            run: The run.
            accelerator: From ``devices.make_accelerator``.
            begun: The folder that counts as not begun if the first step is refused.
            whole: Settings of all trainings, which the first of several writes there.
        """
        checkpoint, inputs = None, self.inputs
        resumes = self.resume and run.folder is not None and (run.folder / CONFIG).is_file()
        if resumes:
            assert run.folder is not None
            checkpoint = read_checkpoint(run, run.folder, accelerator.num_processes)
            inputs = resumed_inputs(run, inputs, checkpoint, self.data, self.allow_changed_data)
            accelerator.wait_for_everyone()  # all have compared before one writes
        if run.config.privacy is not None:
            refuse_settings(run)
            if checkpoint is None:
                begin_privacy(run)
        begin_groups(run, given_groups(run.config, self.groups))
        if checkpoint is not None:
            check_groups(run, checkpoint.state)
        engine = Engine(run, self.hooks, accelerator)
        if checkpoint is None:
            engine.measure_before()
        if engine.main and run.folder is not None:
            inputs.write(run.folder)
            self.listeners.write(run.folder)
            run.config.write(run.folder)  # only now: invalid input must not leave a run behind
            if whole is not None and begun is not None:
                inputs.write(begun)
                self.listeners.write(begun)
                whole.write(begun)
        with _failures_reported(engine, None if self.resume else begun):
            engine.train(checkpoint)
            model = _trained_model(run, self.data, inputs, self.before, self.hooks)
            if engine.main:
                _save(model, run)
                self.hooks.hook.run_finished(run=run)
        accelerator.wait_for_everyone()
        return model

    def train_each(self, strengths: Strengths, folder: Path | None) -> TransferModel:
        """Train with each of several strengths, and save the model of the best.

        Args:
            strengths: The trainings.
            folder: The folder of the whole.
        """
        for number, run in enumerate(strengths.runs()):
            accelerator = make_accelerator(run.config)  # a gradient scaler remembers the run before
            first = number == 0
            model = self.train(run, accelerator, folder if first else None, strengths.config)
            if strengths.note(run):
                kept = model
        kept.facts["strengths"] = strengths.facts()
        kept.run_folder = folder
        run = strengths.best()
        if accelerator.is_main_process:
            if folder is not None:
                strengths.write(folder)
            _save(kept, run)
            self.hooks.hook.strength_chosen(run=run, trials=strengths.done)
        accelerator.wait_for_everyone()
        return kept


def _measure_settings(
    run: Run, given: Mapping[str, Any], accelerator: Accelerator, started: float
) -> None:
    """Choose the settings of a new run that are measured, and slow down what starts well."""
    if given["task"] is None and run.config.start is None:
        run.notes += (f"task: {run.config.task}, the only one that claims the data",)
    if run.config.privacy is not None:
        _refuse_measuring(given)
    if given["schedule"] == AUTO:
        use_schedule(run, recommend_schedule(run, accelerator), given["learning_rate"])
    fit_schedule_to_head(run)
    set_batch_size(run, given["batch_size"], accelerator)
    if run.config.budget is not None:
        use_budget(run, plan_epochs(run, accelerator, started))


def _refuse_measuring(given: Mapping[str, Any]) -> None:
    """Refuse settings whose choice reads training images without noise, or before it is known."""
    if given["schedule"] == AUTO:
        raise OptionError(
            "privacy: schedule='auto' chooses by a probe on the training images without noise; name a schedule"
        )
    if given["budget"] is not None or given["batch_size"] == AUTO:
        raise OptionError(
            "privacy: the noise depends on the number of steps and their images; pass epochs in place of a "
            "budget, and a number as batch_size"
        )


def _trained_model(
    run: Run, data: RunData, inputs: RunInputs, before: TrainingImages | None, hooks: Any
) -> TransferModel:
    """Return the model of a run that has ended, with what is known of its training."""
    run.network.transfer = None  # needed in training only, as is its copy of the backbone
    facts = run_facts(run, data, inputs)
    model = TransferModel(run.network, facts, data.checked.validation, run.folder, hooks)
    model.training_images = images_of_run(run, data, inputs, before)
    model.metrics = run.metrics
    return model


def _save(model: TransferModel, run: Run) -> None:
    """Write the model into the folder of its run, if there is one."""
    if run.folder is None:
        return
    model.save(run.folder / "model")
    if has_its_base(run.network):
        model.save_adapter(run.folder / "adapter")


@contextmanager
def _failures_reported(engine: Engine, begun: Path | None) -> Iterator[None]:
    """Report to callbacks what a run fails with, and leave no folder of a run that never started.

    Args:
        engine: The engine of the run.
        begun: The folder that the run began; ``None`` if there is none, or an earlier start began it.
    """
    try:
        yield
    except BaseException as error:
        if engine.main:
            engine.hooks.run_failed(run=engine.run, error=error)
            if begun is not None and _is_refused(engine.run, error):
                give_up(begun)
        lost = as_lost_process(error)
        if lost is not None:
            raise lost from error
        raise


def _is_refused(run: Run, error: BaseException) -> bool:
    """Check whether an error before the first step tells that settings or data do not fit."""
    wrong_input = VisiongraftError.exit_code
    is_wrong_input = isinstance(error, VisiongraftError) and error.exit_code == wrong_input
    return is_wrong_input and run.state.steps == 0
