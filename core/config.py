"""The settings of a run, defined once.

The fields of ``FitConfig`` are the settings of ``visiongraft.fit``: their checks, the options of the
command line with help and defaults, the fields of ``config.json`` and the comparison on resume follow
from them. ``fit`` repeats names, types and defaults for editors; a test keeps both equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from visiongraft.errors import ArtifactError, OptionError
from visiongraft.group_training import GroupTraining
from visiongraft.options import is_integer, is_number
from visiongraft.privacy import Privacy
from visiongraft.saving.files import read_json, through_json, write_json
from visiongraft.system.versions import VISIONGRAFT, describe_other_format
from visiongraft.training.selection.criteria import VALIDATION, Selection

FORMAT = 3
READABLE = (2, 3)  # settings that are newer than a file have their defaults
OLD_RATE = 1e-4  # default learning rate of the schedules of format 2
OLD_SCHEDULES = ("full", "lp_ft", "gradual", "milestones", "last_n")
GIGABYTE = 1_000_000_000
BATCH_SIZE = 32  # with many images
EPOCHS = 10  # without a budget
NESTED = "nested"  # validation by folds of the validation images
HELD_OUT = 0.2  # fraction of the images for validation
# Settings that decide how images are read and prepared.
IMAGE_SETTINGS = (
    "task",
    "task_options",
    "backbone",
    "weights",
    "validation",
    "size",
    "resize",
    "in_channels",
    "seed",
)
FEATURE_SETTINGS = (*IMAGE_SETTINGS, "device")
AUTO = "auto"  # a batch size or schedule that is chosen by measuring, and then stored

TYPES = {bool: "True or False", str: "a string", dict: "a set of values by name", list: "a list"}
CALLS = ("schedule",)  # settings that name a plugin's item, with its options
CALL_LISTS = ("transfer_loss", "adapters")  # settings that name any number of such items

Replay = Literal["auto", "on", "off"]
ReplayDtype = Literal["float32", "float16"]
Precision = Literal["no", "fp16", "bf16"]
Device = Literal["cpu", "cuda"]


class Rule(NamedTuple):
    """A condition on a value, attached to its type with ``Annotated``.

    Attributes:
        holds: Check a value.
        words: What the value is not, in the message that refuses it.
    """

    holds: Callable[[Any], bool]
    words: str


PositiveInt = Annotated[int, Rule(lambda v: is_integer(v, 1), "an integer of at least 1")]
BatchSize = Annotated[int, Rule(lambda v: is_integer(v, 1), "an integer of at least 1, nor 'auto'")]
NonNegativeInt = Annotated[int, Rule(lambda v: is_integer(v, 0), "an integer of at least 0")]
HeldOut = Annotated[
    float | Literal["nested"],
    Rule(
        lambda v: v == NESTED or (is_number(v) and 0 < v < 1), "a fraction in (0, 1), nor 'nested'"
    ),
]
Decay = Annotated[
    float, Rule(lambda v: is_number(v) and 0 < v < 1, "a decay in (0, 1), such as 0.99")
]
Budget = Annotated[
    float, Rule(lambda v: is_number(v) and v > 0, "a time, such as 90s, 10min or 1h30m")
]
WeightDecay = Annotated[float, Rule(lambda v: is_number(v) and v >= 0, "a number of at least 0")]
Norm = Annotated[
    float, Rule(lambda v: is_number(v, finite=False) and v > 0, "positive; None disables clipping")
]


NamedPaths = Annotated[
    dict[str, Any],
    Rule(
        lambda v: isinstance(v, dict) and all(_is_named_path(n, p) for n, p in v.items()),
        "a dict from names to datasets, such as {'anchors': PATH}; names consist of letters, digits, '_' "
        "and '-', and are not 'train' or 'validation'",
    ),
]


NamedMetrics = Annotated[
    dict[str, Any],
    Rule(
        lambda v: isinstance(v, dict) and all(isinstance(m, str | None) for m in v.values()),
        "a dict from names to metrics",
    ),
]


Data = Annotated[
    Any,
    Rule(
        lambda v: isinstance(v, str) or (isinstance(v, dict) and all(map(_is_text, v.items()))),
        "a string, nor strings by the names of a task's heads",
    ),
]


def _is_text(pair: tuple[object, object]) -> bool:
    return all(isinstance(one, str) for one in pair)


def _is_named_path(name: object, path: object) -> bool:
    """Check one dataset of several; the path of one in memory is ``None``."""
    good = isinstance(name, str) and re.fullmatch(r"[\w-]+", name) is not None
    return good and name not in ("train", VALIDATION) and isinstance(path, str | None)


def setting(default: Any, help: str, shown: str | None = None, since: int = 2) -> Any:
    """Declare a setting of ``fit`` as a field of ``FitConfig``.

    Args:
        default: Default value of the parameter of ``fit``.
        help: Help text on the command line, and the beginning of the parameter's description in the
            docstring of ``fit``; without the final period.
        shown: What the command line shows as the default instead of the value.
        since: The first format of ``config.json`` that has the setting.

    Returns:
        The field.
    """
    return field(metadata={"default": default, "help": help, "shown": shown, "since": since})


@dataclass(frozen=True)
class FitConfig:
    """Everything that determines a run, as ``config.json`` holds it.

    Raises:
        OptionError: A value is invalid.
    """

    data: Data | None = setting(None, "Path of a dataset in one of the task's formats")
    task: str = setting(
        None,
        "Name of the task, as listed by `visiongraft tasks`, or a .toml or .yaml file with the heads of several",
        "the only one that claims the data",
    )
    task_options: dict[str, Any] = setting(None, "Options of the task")
    backbone: str = setting(
        "bundled/efficientnet_lite0",
        "Name of a backbone, as listed by `visiongraft backbones`, or the folder of a saved model",
    )
    weights: str | None = setting(
        "pretrained", "Initial weights: pretrained, none (random), or a weights file"
    )
    partial: bool = setting(
        False, "Load the tensors of a weights file that fit the backbone, if not all do", since=3
    )
    weights_license: str | None = setting(
        None,
        "License of the weights file, such as MIT, which models and exported files then state",
        "the one that a safetensors file states",
        since=3,
    )
    start: str | None = setting(
        None,
        "Folder of a saved model or a run, or file of published weights, to continue with: task, backbone and head",
        "a new head on the backbone",
        since=3,
    )
    schedule: dict[str, Any] = setting(
        "lp_ft",
        "Which stages are trained when: a name listed by `visiongraft schedules`, with or without "
        "options, such as gradual(layer_decay=0.7); auto chooses by a linear probe",
    )
    epochs: PositiveInt = setting(
        None, "Total number of epochs over all phases", "10, or as many as the budget allows"
    )
    budget: Budget | None = setting(
        None,
        "Time that the run may take, such as 90s, 10min or 1h30m; the number of epochs is chosen to fit",
        "no budget",
        since=3,
    )
    validation: HeldOut = setting(
        HELD_OUT,
        "Fraction of the images held out for validation if the dataset has no validation split, or nested: "
        "0.2, and an estimate of what the best epoch is worth on other images",
    )
    leave_out: list[str] | None = setting(
        None,
        "Digests of images of the dataset that are not used, as inputs.json of a run has them",
        "all images are used",
        since=3,
    )
    groups: str | None = setting(
        None,
        "Groups of images that are measured each by itself: an attribute of the samples, such as a further column of a "
        "table, or a .csv file with the columns path and group",
        "no groups",
        since=3,
    )
    group_training: str | None = setting(
        None,
        "How groups share the loss: reweight lets each count alike, group_dro or group_dro(step_size=0.05) lets those "
        "with a high loss count most",
        "each image counts alike",
        since=3,
    )
    data_license: str | None = setting(
        None,
        "License of the training images, such as CC-BY-NC-4.0, which models and exported files then state",
        "what README.md in the dataset's folder states",
        since=3,
    )
    evaluate_on: NamedPaths | None = setting(
        None,
        "Further labeled datasets to evaluate after each epoch",
        "no further datasets",
        since=3,
    )
    select: str = setting(
        "best",
        "Which epoch to keep: best, last, or the best that satisfies conditions, such as "
        "best(anchors.accuracy >= -0.02); a signed number is relative to the value before training; or "
        "lowest(SET.METRIC) or highest(SET.METRIC), such as lowest(unlabelled.class_confusion)",
        since=3,
    )
    streams: NamedPaths | None = setting(
        None,
        "Further data for the training steps, as far as the task or a transfer loss uses any",
        "no further data",
        since=3,
    )
    metrics: NamedMetrics | None = setting(
        None,
        "Metrics of torchmetrics beside the task's, such as MulticlassAUROC or auroc=MulticlassAUROC(average=none)",
        "the task's metrics alone",
        since=3,
    )
    augment: str | None = setting(
        None,
        "Augmentation of training images in place of the task's: FILE.py:NAME, a callable of a file, or a value of "
        "the task's option augment, such as strong",
        "the task's",
        since=3,
    )
    size: tuple[int, int] | None = setting(
        None,
        "Network input size in pixels, one number or height and width",
        "the task's, otherwise the backbone's",
    )
    resize: str | None = setting(
        None,
        "How images are resized: crop keeps the aspect ratio and takes the center, stretch takes "
        "the whole image, letterbox keeps the aspect ratio of the whole image and fills it up, pad "
        "keeps the image size",
        "the task's, otherwise the backbone's",
    )
    in_channels: PositiveInt = setting(
        3, "Number of image channels: 3, 1 (grayscale), or as many as the dataset has"
    )
    batch_size: BatchSize = setting(
        None,
        "Batch size per process; auto measures it",
        "by the number of training images: 8, 16 or 32",
    )
    optimizer: str = setting(
        "adamw", "Optimizer, with or without options: adamw, sgd(momentum=0.8), or one of a plugin"
    )
    weight_decay: WeightDecay = setting(
        0.05, "Weight decay, never applied to biases and normalization weights"
    )
    transfer_loss: list[dict[str, Any]] = setting(
        None,
        "Regularizers towards the pretrained network, such as l2_sp(alpha=0.01)",
        "no regularizer",
    )
    adapters: list[dict[str, Any]] = setting(
        None,
        "Adapters that train in place of the backbone's weights, such as lora(rank=8), as listed by "
        "`visiongraft adapters`",
        "no adapters",
        since=3,
    )
    views: PositiveInt | None = setting(
        None,
        "Number of fixed augmented views per image, whose features can be cached",
        "new augmentations in every epoch",
    )
    replay: Replay = setting(
        "auto", "Feature caching: store the output of the frozen stages and reuse it"
    )
    replay_dtype: ReplayDtype = setting("float32", "Data type of the cached features")
    replay_budget: NonNegativeInt = setting(
        8 * GIGABYTE, "Disk space that the feature cache may use", "8GB"
    )
    replay_shared: bool = setting(
        True, "Keep cached features in the user's cache folder and share them between runs", since=3
    )
    precision: Precision = setting("no", "Mixed precision in training")
    accumulate: PositiveInt = setting(1, "Gradient accumulation steps")
    gradient_checkpointing: bool = setting(
        False,
        "Recompute activations of the backbone in the backward pass, for less memory and slower steps",
        since=3,
    )
    clip_norm: Norm | None = setting(1.0, "Maximum gradient norm; none disables clipping")
    privacy: dict[str, Any] | None = setting(
        None,
        "Differential privacy of the training images, such as epsilon=3,delta=1e-5",
        "no privacy",
        since=3,
    )
    ema: Decay | None = setting(
        None,
        "Decay of an exponential moving average (EMA) of the weights, such as 0.99; the averaged "
        "weights are evaluated and saved",
        "no averaging",
    )
    swa: PositiveInt | None = setting(
        None,
        "Number of last epochs at whose ends the weights are averaged (stochastic weight averaging); the "
        "learning rate stays constant in them, and the average is evaluated and saved",
        "no averaging",
        since=3,
    )
    wise_ft: PositiveInt | None = setting(
        None,
        "Number of steps from the weights of start to those of each epoch, each of which may be kept "
        "(WiSE-FT), such as 5 for alpha 0, 0.2, ..., 1",
        "none",
        since=3,
    )
    patience: PositiveInt | None = setting(
        None, "Epochs without improvement after which a phase ends", "no early stopping"
    )
    checkpoint_every: PositiveInt | None = setting(
        None, "Optimizer steps between checkpoints within an epoch", "only after each epoch"
    )
    keep_epochs: PositiveInt | None = setting(
        None,
        "Number of last epochs whose weights are kept in the run folder, for soups of them",
        "the best epoch's alone",
        since=3,
    )
    workers: NonNegativeInt | None = setting(
        None, "Number of processes that load images", "depends on the device"
    )
    device: Device | None = setting(None, "Device to train on", "cuda if available, otherwise cpu")
    seed: NonNegativeInt = setting(0, "Seed of all random numbers")

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            _check(name, getattr(self, name), kind)
        Selection.parse(self.select).check_names(
            {**(self.evaluate_on or {}), **(self.streams or {})}
        )
        Privacy.read(self.privacy)
        if GroupTraining.read(self.group_training) is not None and self.groups is None:
            raise OptionError(
                f"group_training={self.group_training!r} needs groups, such as groups='site'"
            )
        if self.swa is not None and self.ema is not None:
            raise OptionError(
                f"swa={self.swa} and ema={self.ema} average the same weights; choose one"
            )
        if self.swa is not None and self.swa > self.epochs:
            raise OptionError(
                f"swa={self.swa} averages more epochs than the run has: {self.epochs}"
            )
        if self.keep_epochs is not None and self.adapters:
            raise OptionError(
                f"keep_epochs={self.keep_epochs}: epochs of adapters are not kept; leave it out, or average runs"
            )
        if self.wise_ft is not None and self.start is None:
            raise OptionError(
                f"wise_ft={self.wise_ft} interpolates with a trained model, but the run begins with a random "
                "head; train a linear probe first and pass start=PROBE"
            )

    @property
    def held_out(self) -> float:
        """Fraction of the images held out for validation if the dataset has no validation split."""
        return HELD_OUT if isinstance(self.validation, str) else self.validation

    @property
    def selection(self) -> Selection:
        """Which epoch to keep."""
        return Selection.parse(self.select)

    def write(self, folder: Path) -> None:
        """Write ``config.json`` into a run folder."""
        write_json(
            folder / "config.json", {"format": FORMAT, "visiongraft": VISIONGRAFT, **asdict(self)}
        )

    @classmethod
    def read(cls, folder: Path) -> FitConfig:
        """Read a run folder's ``config.json``.

        Args:
            folder: The run folder.

        Returns:
            The settings.

        Raises:
            ArtifactError: The file is missing, damaged or of another version.
        """
        path = folder / "config.json"
        values = read_json(path)
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or not isinstance(values.get("format"), int):
            raise ArtifactError(f"{path} is not the config of a run")
        found, saved_by = values.pop("format"), values.pop("visiongraft", None)
        if found not in READABLE:
            raise ArtifactError(describe_other_format(path, found, FORMAT, saved_by))
        for setting in fields(cls):
            if setting.metadata["since"] > found:
                values.setdefault(setting.name, setting.metadata["default"])
        if values.keys() != known:
            odd = sorted(values.keys() ^ known)
            raise ArtifactError(f"{path} has missing or unknown settings: {', '.join(odd)}")
        if isinstance(values["size"], list):
            values["size"] = tuple(values["size"])
        for name in CALL_LISTS:  # runs of 0.2 and before have one or none
            if values[name] is None or isinstance(values[name], dict):
                values[name] = [values[name]] if values[name] is not None else []
        try:
            for name in CALLS:
                _check_call(name, values[name])
            for name in CALL_LISTS:
                for value in values[name] if isinstance(values[name], list) else ():
                    _check_call(name, value)
            if found == 2 and values["schedule"]["name"] in OLD_SCHEDULES:
                values["schedule"]["options"].setdefault("learning_rate", OLD_RATE)
            return cls(**values)
        except OptionError as error:
            raise ArtifactError(f"{path} is not the config of a run: {error}") from error


def fit_defaults() -> dict[str, Any]:
    """Return the defaults of the parameters of ``fit`` that are settings, by name."""
    return {field.name: field.metadata["default"] for field in fields(FitConfig)}


def differences(given: Mapping[str, Any], stored: FitConfig) -> list[str]:
    """Compare the settings of a resumed call with those of its run.

    Args:
        given: Settings of the call, in the form of ``FitConfig``; other names are ignored.
        stored: Settings of the run.

    Returns:
        One ``name=value (the run has value)`` for each setting that differs.
    """
    before = asdict(stored)
    return [
        f"{name}={value!r} (the run has {before[name]!r})"
        for name, value in given.items()
        if name in before and through_json(value) != through_json(before[name])
    ]


def _check(name: str, value: Any, kind: Any) -> None:
    """Refuse a value of another type, one that breaks the rule, and one that is none of the choices."""
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    if value is None and NoneType in kinds:
        return
    for one in kinds:
        origin = get_origin(one) or one
        if origin is Literal and value not in get_args(one):
            raise OptionError(f"{name}={value!r} is not one of {', '.join(get_args(one))}")
        if origin is Annotated:
            (rule,) = one.__metadata__
            if not rule.holds(value):
                raise OptionError(f"{name}={value!r} is not {rule.words}")
        if origin is tuple and not (_is_pair(value) and all(is_integer(v, 1) for v in value)):
            raise OptionError(f"{name}={value!r} is not a height and a width of at least 1 pixel")
        if origin in TYPES and not isinstance(value, origin):
            raise OptionError(f"{name}={value!r} is not {TYPES[origin]}")


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _check_call(name: str, value: Any) -> None:
    """Refuse what is not a name with options."""
    is_call = isinstance(value, dict) and value.keys() >= {"name", "options"}
    if not (is_call and isinstance(value["name"], str) and isinstance(value["options"], dict)):
        raise OptionError(f"{name}={value!r} is not a name with options")


def settings_without(names: Collection[str]) -> list[str]:
    """Return the names of all settings but some."""
    return [name for name in FitConfig.__dataclass_fields__ if name not in names]
