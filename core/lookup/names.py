"""Find by name what plugins provide, and load it.

This module looks names up for ``fit``, ``load``, ``export`` and the command line, which pass the
objects on; nothing below it asks the registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from visiongraft.adaptation.networks import adapter_state, apply_adapters, base_digest
from visiongraft.adapters import AdapterChoice
from visiongraft.backbone import Backbone, BackboneSource, PooledHead, backbone_names, names_in
from visiongraft.errors import (
    ArtifactError,
    BackboneError,
    OptionError,
    PluginError,
    VisiongraftError,
    type_and_message,
)
from visiongraft.network import Network
from visiongraft.optimizers import OptimizerFactory, task_optimizers
from visiongraft.options import refuse_unknown
from visiongraft.preprocess import as_size
from visiongraft.registry.calls import read_call
from visiongraft.registry.manager import plugins
from visiongraft.saving.adapter_folder import (
    TENSORS,
    adapter_folder,
    is_adapter,
    read_adapter_config,
)
from visiongraft.saving.classes import class_path, is_class
from visiongraft.saving.saved_model import (
    SAVED_MODEL,
    SavedConfig,
    build_network,
    check_class,
    is_saved_model,
    load_saved_backbone,
    load_tensors,
    model_folder,
    network_around,
    preprocess_of,
    read_config,
)
from visiongraft.saving.weights import FROM_FILE, load_weights, read_weights
from visiongraft.schedules import Schedule
from visiongraft.scorers import ScorerChoice
from visiongraft.task import Task, create_task
from visiongraft.training.optimizers import RunOptimizer
from visiongraft.training.transfer_losses import TransferChoice, TransferLoss, options_of

RANDOM = "random"  # the weights of a backbone that none were loaded into
BY_CLASS = "load(folder, task=MyTask), on the command line --plugin FILE.py"


def load_backbone(
    name: str | Path,
    weights: str | Path | None = "pretrained",
    *,
    in_channels: int = 3,
    size: int | tuple[int, int] | None = None,
    partial: bool = False,
) -> Backbone:
    """Load a backbone by name, or out of a saved model.

    Args:
        name: ``"timm/resnet50"``, ``"torchvision/resnet50"``, ``"bundled/efficientnet_lite0"``, a
            name after the slash that only one source has, or the folder of a saved model.
        weights: ``"pretrained"``, ``None`` for random weights, or a local ``.safetensors``,
            ``.pth``, ``.pt``, ``.th``, ``.bin`` or ``.ckpt`` file.
        in_channels: Number of image channels; a pretrained first layer is adapted to it.
        size: Network input, one number or (height, width); the architecture's own if ``None``.
        partial: Accept a weights file that does not fit completely.

    Returns:
        The backbone, in training mode.

    Raises:
        BackboneError: The name is unknown, or the architecture refuses the size.
        OptionError: The size is neither a number of pixels nor a height and a width.
        WeightsError: The weights could not be downloaded, read or fitted.

    Examples:
        >>> backbone = load_backbone("simple_cnn", weights=None, size=32)
        >>> backbone.stages, backbone.info.channels, backbone.info.embedding_dim
        (('stem', 'stage1', 'stage2'), (32, 64), 128)
    """
    if in_channels < 1:
        raise BackboneError(f"in_channels={in_channels} is not a number of channels of at least 1")
    pair = as_size(size)
    if is_saved_model(name):
        return load_saved_backbone(
            Path(name),
            find_source,
            find_adapter,
            weights=weights,
            in_channels=in_channels,
            size=pair,
            partial=partial,
        )
    source, short = find_source(str(name))
    pretrained = weights == "pretrained"
    backbone = source.build(short, pretrained=pretrained, in_channels=in_channels, size=pair)
    if ":" in str(name):  # by this name, "distribution:prefix/name", it is found again
        backbone.info = replace(backbone.info, name=str(name))
    if weights is not None and not pretrained:
        load_weights(backbone, Path(weights), partial=partial)
    return backbone


def find_source(name: str) -> tuple[BackboneSource, str]:
    """Find who provides a backbone.

    Args:
        name: A full name, with ``"distribution:"`` before it where two plugins provide the
            prefix, or a name after the slash that only one source has.

    Returns:
        The source, and the name without prefix.

    Raises:
        BackboneError: Nobody or more than one provides it.
    """
    prefix, _, short = name.rpartition("/")
    owner, colon, rest = name.partition(":")
    chosen = f"{owner}:{rest.rpartition('/')[0]}"
    if colon and plugins().provides("backbone", chosen):
        return plugins().get("backbone", chosen), rest.rpartition("/")[2]
    sources = plugins().backbone_sources()
    if prefix in sources and short in sources[prefix].names():
        return sources[prefix], short
    owners = [s for s in sources.values() if name in names_in(s)] if not prefix else []
    if len(owners) == 1:
        return owners[0], name
    if owners:
        options = " or ".join(f"{s.prefix}/{name}" for s in owners)
        raise BackboneError(f"backbone {name!r} exists more than once; use {options}")
    if is_adapter(adapter_folder(Path(name))):
        raise BackboneError(
            f"backbone={name} is the folder of an adapter, without its base; load it on its base, "
            "load(folder, base=...), save the model, and pass that folder"
        )
    raise BackboneError(plugins().missing("backbone", name, backbone_names(sources.values())))


def find_schedule(what: str | Schedule | Mapping[str, Any]) -> Schedule:
    """Find a schedule by name, with or without options.

    Args:
        what: A schedule, a name, a call such as ``"gradual(layer_decay=0.8)"``, or what
            ``Schedule.to_json`` returned.

    Returns:
        The schedule.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Examples:
        >>> find_schedule("last_n(n=2)").options
        {'n': 2}
    """
    if isinstance(what, Schedule):
        return what
    if not isinstance(what, (str, Mapping)):
        raise OptionError(
            f"schedule={what!r} is neither a name nor a schedule; visiongraft.schedule makes one of "
            "a generator function"
        )
    name, options = _name_and_options(what, "schedule")
    found: Schedule = plugins().get("schedule", name)
    # Under the name that the user wrote, such as "distribution:name", it is found again on resume.
    return replace(found, name=name)(**options)


def find_optimizer(what: str) -> OptimizerFactory:
    """Find an optimizer by name, with or without options.

    Args:
        what: A name, or a call such as ``"sgd(momentum=0.8)"``.

    Returns:
        The factory.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Examples:
        >>> find_optimizer("adamw(eps=1e-6)").options
        {'eps': 1e-06}
    """
    if not isinstance(what, str):
        raise OptionError(f"optimizer={what!r} is not the name of an optimizer")
    name, options = _name_and_options(what, "optimizer")
    found: OptimizerFactory = plugins().get("optimizer", name)
    return found(**options)


def find_optimizers(task: Task, default: str) -> tuple[RunOptimizer, ...]:
    """Find the optimizers that a task asks for.

    Args:
        task: The task.
        default: The optimizer of the run.

    Returns:
        At least one.

    Raises:
        PluginError: The task asks for something else than optimizers with names of their own.
        OptionError: An option is unknown.
    """
    return tuple(
        RunOptimizer(spec, find_optimizer(spec.optimizer or default)(**spec.options))
        for spec in task_optimizers(task)
    )


def find_transfer_loss(what: str | TransferChoice | Mapping[str, Any]) -> TransferChoice:
    """Find a transfer loss by name, with or without options.

    Args:
        what: A choice, a name, a call such as ``"l2_sp(alpha=0.01)"``, or what ``to_json``
            returned.

    Returns:
        The loss's class with these options.

    Raises:
        PluginError: There is none of that name.
        OptionError: The options cannot be read, or one is unknown.

    Example:
        >>> find_transfer_loss("l2_sp(alpha=0.01)").options
        {'alpha': 0.01}
    """
    if isinstance(what, TransferChoice):
        return what
    if not isinstance(what, (str, Mapping)):
        raise OptionError(f"transfer_loss={what!r} is not the name of a transfer loss")
    name, options = _name_and_options(what, "transfer loss")
    kind: type[TransferLoss] = plugins().get("loss", name)
    parameters = options_of(kind)
    refuse_unknown(f"transfer loss {name!r}", options, [p.name for p in parameters])
    for parameter in parameters:
        required = (
            parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        )
        if required and parameter.name not in options:
            raise OptionError(
                f"transfer loss {name!r} needs the option {parameter.name!r}: "
                f"{name}({parameter.name}=...)"
            )
    return TransferChoice(name, kind, options)


def find_scorer(what: str) -> ScorerChoice:
    """Make a scorer by name, with or without options.

    Args:
        what: A name, or a call such as ``"knn(k=5)"``.

    Returns:
        The scorer and its options.

    Raises:
        PluginError: There is none of that name, or it cannot be made.
        OptionError: The options cannot be read, or one is unknown or invalid.

    Example:
        >>> str(find_scorer("knn(k=5)"))
        'knn(k=5)'
    """
    if not isinstance(what, str):
        raise OptionError(f"scorer {what!r} is not a name such as 'logme', or 'knn(k=5)'")
    name, options = _name_and_options(what, "scorer")
    return ScorerChoice(name, _made("scorer", name, options), options)


def find_adapter(what: str | Mapping[str, Any]) -> AdapterChoice:
    """Make an adapter by name, with or without options.

    Args:
        what: A name, a call such as ``"lora(rank=8)"``, or what ``AdapterChoice.to_json`` returned.

    Returns:
        The adapter and its options.

    Raises:
        PluginError: There is none of that name, or it cannot be made.
        OptionError: The options cannot be read, or one is unknown or invalid.
    """
    if not isinstance(what, (str, Mapping)):
        raise OptionError(f"adapter {what!r} is not a name such as 'lora', or 'lora(rank=8)'")
    name, options = _name_and_options(what, "adapter")
    return AdapterChoice(name, _made("adapter", name, options), options)


def load_source_head(
    name: str | Path, weights: str | Path | None, task: Task | None = None
) -> nn.Module | None:
    """Load the head that a backbone was trained with.

    Args:
        name: As in ``load_backbone``.
        weights: As in ``load_backbone``.
        task: A task whose class need not be an installed plugin's.

    Returns:
        A module from ``Features`` to outputs: the head of a saved model, or the classifier of
        published weights; ``None`` if the backbone comes without one.
    """
    if weights is None:
        return None
    if is_saved_model(name):
        if weights != "pretrained":
            return None
        folder = model_folder(Path(name))
        own = task is not None and read_config(folder).task == task.name
        return load_network(folder, type(task) if own and task is not None else None)[0].head
    source, short = find_source(str(name))
    file = None if weights == "pretrained" else read_weights(Path(weights))
    classifier = source.build_classifier(short, file)
    return None if classifier is None else PooledHead(classifier)


def find_task(name: str, what: str, how: str) -> type[Task]:
    """Find the task that something on disk was made for.

    Args:
        name: The task's name.
        what: What was made for it, for the message.
        how: How to pass the task itself, for the message.

    Returns:
        The task's class.

    Raises:
        PluginError: No plugin provides it, or several do.
    """
    if plugins().provides("task", name):
        found: type[Task] = plugins().get("task", name)
        return found
    missing = plugins().missing("task", name, plugins().tasks())
    raise PluginError(
        f"{what} is for a task that no installed plugin provides ({missing}); if it is in a file "
        f"of yours, use {how}"
    )


def find_exported_task(metadata: Mapping[str, Any]) -> Task:
    """Create the task that an exported file was made for.

    Args:
        metadata: The file's metadata, with ``task``, ``task_options`` and, except in files of earlier
            versions, ``task_class``.

    Returns:
        The task.

    Raises:
        ArtifactError: The task of that name is another class.
        PluginError: No plugin provides it, or several do.
        OptionError: Its options do not fit.
    """
    name = metadata["task"]
    kind = find_task(name, "the exported file", "--plugin FILE.py")
    recorded = metadata.get("task_class")
    if recorded is not None and not is_class(recorded, class_path(kind)):
        raise ArtifactError(
            f"the exported file is of the task class {recorded}, but task {name!r} is "
            f"{class_path(kind)} here; use --plugin FILE.py with that class and --no-plugin for the "
            "other one, and train subclasses under a name of their own"
        )
    return create_task(kind, metadata["task_options"])


def load_network(folder: Path, task: type[Task] | None = None) -> tuple[Network, SavedConfig]:
    """Load a saved model.

    Args:
        folder: The saved model.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The network in evaluation mode, and the config.

    Raises:
        ArtifactError: Something is missing, damaged or does not fit together.
        PluginError: No installed plugin provides the task.
    """
    config = read_config(folder)
    kind = task or find_task(config.task, f"model {folder}", BY_CLASS)
    if task is None:
        check_class(folder, config, kind)
    return build_network(folder, config, kind, find_source, find_adapter), config


def load_adapted(
    folder: Path, base: str | Path | Backbone | None, task: type[Task] | None = None
) -> tuple[Network, SavedConfig]:
    """Load an adapter on its base.

    Args:
        folder: The adapter's folder.
        base: The base: a name or a folder as ``load_backbone`` takes them, or a backbone, which is
            changed in place; ``None`` for the name that the adapter was trained with.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The network with the adapter, in evaluation mode, and the config.

    Raises:
        ArtifactError: Something is missing or damaged, or the base is another one.
        PluginError: No installed plugin provides the task or an adapter.
    """
    config, digest = read_adapter_config(folder)
    kind = task or find_task(config.task, f"adapter {folder}", BY_CLASS)
    if task is None:
        check_class(folder, config, kind)
    preprocess, channels = preprocess_of(folder, config), config.backbone["in_channels"]
    if not isinstance(base, Backbone):
        if base is None:
            _refuse_without_base(folder, config.backbone["name"], config.backbone["provenance"])
        name = config.backbone["name"] if base is None else base
        base = load_backbone(name, in_channels=channels, size=preprocess.size)
    base.info = replace(base.info, preprocess=preprocess)
    network = network_around(folder, config, kind, base)
    if base_digest(network) != digest:
        raise ArtifactError(
            f"adapter {folder} was trained on a base with other weights than {base.info.name!r} has "
            f"here ({config.backbone['name']!r}, SHA-256 {digest[:12]}...); pass that one, "
            "load(folder, base=...)"
        )
    apply_adapters(network, [find_adapter(choice) for choice in config.backbone["adapters"]])
    load_tensors(network, adapter_state(network), folder / TENSORS)
    return network, config


def _refuse_without_base(folder: Path, name: str, provenance: Mapping[str, str]) -> None:
    """Refuse to load an adapter without ``base`` if the name of the base does not determine its weights."""
    source, weights = provenance.get("source", ""), provenance.get("weights", "")
    if source.startswith(SAVED_MODEL):
        needed = f"on the {source}; pass its folder, load(folder, base=...)"
    elif source == FROM_FILE or weights == RANDOM:
        kind = f"the weights file {weights}" if source == FROM_FILE else "random weights"
        needed = f"on {name} with {kind}; pass base=load_backbone({name!r}, weights=...)"
    else:
        return
    raise ArtifactError(f"adapter {folder} was trained {needed}")


def _name_and_options(what: str | Mapping[str, Any], kind: str) -> tuple[str, Mapping[str, Any]]:
    """Read a name with options, as a user writes it or as ``to_json`` returned it."""
    if isinstance(what, str):
        return read_call(what, kind)
    name, options = what.get("name"), what.get("options")
    if not isinstance(name, str) or not isinstance(options, Mapping) or len(what) != 2:
        raise OptionError(f"{kind} {what!r} is not a name; write options as 'NAME(OPTION=VALUE)'")
    return name, options


def _made(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """Make an object of a class that a plugin registered, with the options that a user set."""
    registered: type[Any] = plugins().get(kind, name)
    refuse_unknown(f"{kind} {name!r}", options, list(inspect.signature(registered).parameters))
    try:
        return registered(**options)
    except OptionError as error:
        raise OptionError(f"{kind} {name!r}: {error}") from error
    except VisiongraftError:
        raise
    except Exception as error:  # a third-party class may raise any error
        raise PluginError(f"{kind} {name!r} cannot be made: {type_and_message(error)}") from error
