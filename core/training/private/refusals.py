"""What differential privacy cannot be combined with: refused in one line before the first step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from visiongraft.data.batch import Batch
from visiongraft.errors import OptionError, VisiongraftError, one_line
from visiongraft.loss_parts import LossPart, read_parts
from visiongraft.network import Network
from visiongraft.seeds import preserved
from visiongraft.training.run import Run

SAMPLES_TO_COMPARE = 3
TOLERANCE = 1e-3  # of the largest value of a gradient, for rounding
DRAWS = 8  # of the samples' mixing


def refuse_settings(run: Run) -> None:
    """Refuse settings and tasks whose steps use more than single images.

    Args:
        run: The run.

    Raises:
        OptionError: One of them does not go with privacy.
    """
    config, task = run.config, run.network.task
    if config.transfer_loss:
        names = ", ".join(repr(each["name"]) for each in config.transfer_loss)
        _refuse(f"transfer_loss={names} adds gradients that are not of single images; omit it")
    if config.groups is not None:
        _refuse(
            "how many training images each group has is not covered; omit groups, and measure the model by fairness"
        )
    if config.precision != "no":
        # In a batch of other images it is rounded otherwise, and the clipped gradients of all change a little.
        _refuse(
            f"precision={config.precision!r} rounds the gradient of an image depending on the others in its batch, which "
            "clipping does not bound; omit it"
        )
    if len(run.optimizers) > 1 or task.adversarial:
        _refuse(f"task {task.name!r} trains several parts against each other")
    if task.loss_over_pairs:
        _refuse(f"the loss of task {task.name!r} compares images with each other")
    if run.step_streams:
        _refuse(f"the stream {next(iter(run.step_streams))!r} would not be protected; omit it")
    if task.learned_from_targets:
        _refuse(
            f"{task.learned_from_targets} is computed from the training targets without noise; set it "
            "by hand or omit it"
        )


def refuse_batch_norms(network: Network) -> None:
    """Refuse norms that would train on, or remember, what is common to the images of a batch.

    Args:
        network: The network in training mode.

    Raises:
        OptionError: It has such a norm.
    """
    for name, module in network.named_modules():
        if isinstance(module, _NormBase) and module.training and _uses_batches(module):
            _refuse(
                f"batch norm {name!r} would train on statistics of private images; choose a schedule with "
                "batch_norm='frozen' (the default), or a head without batch norm"
            )


def _uses_batches(module: _NormBase) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats


def freeze_norms(network: Network) -> None:
    """Freeze scale and shift of the batch norms whose statistics are frozen: they stay as they are.

    Args:
        network: A network that ``apply_phase`` has prepared; changed in place.
    """
    held = {id(module) for module in network.held_in_eval}
    frozen = set()
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module) in held:
            for own, parameter in module.named_parameters(recurse=False):
                parameter.requires_grad_(False)
                parameter.grad = None
                frozen.add(f"{name}.{own}")
    network.trained -= frozen


def refuse_mixing(network: Network, batch: Batch, mixes: bool) -> None:
    """Refuse tasks that mix the images of a batch with each other.

    Args:
        network: The network.
        batch: Some training images.
        mixes: Whether batches of the phase are passed to ``Task.mix``.

    Raises:
        OptionError: The task mixes them.
    """
    if not mixes:
        return
    with preserved():
        for _ in range(DRAWS):
            images, _ = network.task.mix(batch.images, batch.targets)
            if images is not batch.images and not torch.equal(images, batch.images):
                _refuse(
                    "images of a batch are mixed with each other (mixup, CutMix); switch it off"
                )


def check_gradients(
    network: Network, parameters: dict[str, nn.Parameter], batches: Sequence[Batch]
) -> None:
    """Compare the gradients that Opacus computes of each image with those of the image alone.

    They differ if the loss of an image depends on others, if a part of the loss reads weights beside their
    layers, or if a layer has its samples in another dimension than the first.

    Args:
        network: The network in training mode, with the hooks of Opacus; left as it was.
        parameters: What trains, by name.
        batches: A few training images together, then each of them alone.

    Raises:
        OptionError: They differ.
    """
    idle = [m for m in network.modules() if m.training and _draws_only(m)]
    with preserved():
        try:
            for module in idle:  # dropout would draw other values for each batch
                module.training = False
            together, *alone = (_sample_gradients(network, parameters, each) for each in batches)
        finally:
            for module in idle:
                module.training = True
    for position, (samples, own) in enumerate(alone):
        for name, whole in own.items():
            got = together[0].get(name)
            if got is None or len(got) != len(alone) or len(samples.get(name, ())) != 1:
                _refuse(f"the gradient of single images cannot be computed for {name!r}")
            if not _same(got[position], whole):
                _refuse(
                    f"the gradient of {name!r} depends on more than single images: a part of the loss "
                    "compares images, has a weight of its own, or reads the weights themselves"
                )


def backward(parts: Mapping[str, LossPart]) -> None:
    """Compute the gradients of a loss whose parts are means over samples."""
    with warnings.catch_warnings():  # the first layer that trains has an input without gradients
        warnings.filterwarnings("ignore", "Full backward hook is firing")
        torch.stack([part.value.float() for part in parts.values()]).sum().backward()


def _draws_only(module: nn.Module) -> bool:
    """Check for a module without weights and parts, such as dropout."""
    return not any(True for _ in module.children()) and not any(True for _ in module.parameters())


def _sample_gradients(
    network: Network, parameters: dict[str, nn.Parameter], batch: Batch
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return gradients of each image by Opacus, and that of the batch by autograd."""
    try:
        parts = read_parts(network(batch), network.task.name)
        if any(part.weight is not None for part in parts.values()):
            raise OptionError("a part of the loss has a weight of its own")
        backward(parts)
    except VisiongraftError as error:
        _refuse(str(error))
    except Exception as error:  # Opacus and functorch raise many kinds
        if any(name.startswith("loss.") for name in parameters):
            _refuse(
                f"the loss of task {network.task.name!r} trains weights of its own, whose gradients of single images "
                "cannot be computed"
            )
        _refuse(f"the gradients of single images cannot be computed ({one_line(error)})")
    samples, whole = {}, {}
    for name, parameter in parameters.items():
        if isinstance(found := getattr(parameter, "grad_sample", None), Tensor):
            samples[name] = found
        if parameter.grad is not None:
            whole[name] = parameter.grad
        parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]
    return samples, whole


def _same(one: Tensor, other: Tensor) -> bool:
    largest = max(float(one.abs().max()), float(other.abs().max()), 1e-6)
    return float((one - other).abs().max()) <= TOLERANCE * largest


def _refuse(reason: str) -> NoReturn:
    raise OptionError(f"privacy: {reason}")
