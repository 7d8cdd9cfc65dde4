"""Any network as a backbone: its feature maps and its embedding are read off its submodules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone, BackboneInfo, Features, name_stages
from visiongraft.errors import BackboneError, near_matches, one_line
from visiongraft.preprocess import PreprocessConfig, as_size

PREFIX = "module/"  # of the full name: such a backbone cannot be built from its name
IN_MEMORY = "<network in memory>"  # the setting ``weights`` of a run on a network that was passed
SIZE = (224, 224)
OUTPUT = ""  # the module as a whole


class ModuleBackbone(Backbone):
    """A network that the user built, with its weights.

    The network is copied, and called as it is. Feature maps and embedding are outputs of its submodules; what
    is not stated is found by one forward pass. A saved model of it is loaded by passing the network again:
    ``load(folder, backbone=network)``.

    Args:
        module: A network that takes float images (N, C, H, W).
        maps: Names of submodules whose outputs (N, C_i, H_i, W_i) are the feature maps, as in
            ``module.get_submodule``; ``None`` for the last output at each resolution below that of the images.
        pooled: Name of the submodule whose output is the embedding, or ``""`` for the network's own. What has
            height and width is averaged over them.
        stages: Names of submodules that each begin a stage; ``None`` for a new stage after each feature map.
        size: Size of the network input in pixels, one number or (height, width); 224 if ``None``.
        mean: Mean of the images' channels, on the scale 0..1.
        std: Standard deviation of the images' channels, on the scale 0..1.
        name: Its name; that of its class if ``None``.

    Raises:
        BackboneError: The network cannot be run, or has no such outputs.

    Examples:
        >>> layers = [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)]
        >>> backbone = ModuleBackbone(nn.Sequential(*layers), size=32)
        >>> backbone.info.channels, backbone.info.strides, backbone.info.embedding_dim
        ((8, 16), (4, 8), 16)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        maps: Sequence[str] | None = None,
        pooled: str = OUTPUT,
        stages: Sequence[str] | None = None,
        size: int | tuple[int, int] | None = None,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
        name: str | None = None,
    ) -> None:
        full = PREFIX + (name or type(module).__name__)
        preprocess = PreprocessConfig(as_size(size) or SIZE, mean, std)
        copied = deepcopy(module).train()
        for wanted in (*(maps or ()), pooled, *(stages or ())):
            _check_submodule(full, copied, wanted)
        events, outputs = _run(full, copied, len(mean), preprocess.size)
        found = _find_maps(outputs, preprocess.size) if maps is None else tuple(maps)
        shapes = {node: _map_shape(full, node, outputs) for node in found}
        ordered = tuple(sorted(found, key=lambda node: -shapes[node][2]))
        embedding = _embedding(full, pooled, outputs.get(pooled))
        super().__init__(
            BackboneInfo(
                name=full,
                stage_of=name_stages(_stage_numbers(copied, events, found, stages), "model."),
                channels=tuple(shapes[node][1] for node in ordered),
                strides=tuple(round(preprocess.size[0] / shapes[node][2]) for node in ordered),
                embedding_dim=embedding.shape[1],
                preprocess=preprocess,
                in_channels=len(mean),
                provenance={"source": "network in memory"},
                architecture={"maps": list(ordered), "pooled": pooled},
            )
        )
        self.model = copied
        self.maps = ordered
        self.pooled = pooled
        self.observed = tuple(f"model.{node}" for node in {*ordered, pooled} if node != OUTPUT)

    def forward(self, images: Tensor) -> Features:
        names = {*self.maps, self.pooled} - {OUTPUT}
        with _recording(self.model, names) as outputs:
            outputs[OUTPUT] = self.model(images)
        maps = tuple(outputs[name] for name in self.maps)
        return Features(maps, _embedding(self.info.name, self.pooled, outputs[self.pooled]))

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name the tensors of the network's own state dict as this module does."""
        own = self.state_dict()
        return {n if n in own else f"model.{n}": tensor for n, tensor in weights.items()}


def name_of(module: nn.Module) -> str:
    """Return the full name of the backbone that ``as_backbone`` makes of a network."""
    return module.info.name if isinstance(module, Backbone) else PREFIX + type(module).__name__


def as_backbone(
    module: nn.Module, *, in_channels: int = 3, size: tuple[int, int] | None = None
) -> Backbone:
    """Return a copy of a backbone, or make a backbone of any other network by ``ModuleBackbone``.

    Args:
        module: The network.
        in_channels: Number of image channels.
        size: Network input; ``None`` for that of the backbone, or 224.

    Raises:
        BackboneError: It is a backbone for another number of channels or another size, or cannot be used.
    """
    if not isinstance(module, Backbone):
        plain = PreprocessConfig(SIZE).with_channels(in_channels)
        return ModuleBackbone(module, size=size, mean=plain.mean, std=plain.std)
    info = module.info
    if in_channels != info.in_channels:
        raise BackboneError(
            f"{info.name} takes {info.in_channels} image channels, not {in_channels}; pass in_channels="
            f"{info.in_channels}, or build it for {in_channels}"
        )
    copied = deepcopy(module).train()
    if size is not None and size != info.preprocess.size:
        if not isinstance(module, ModuleBackbone):
            raise BackboneError(
                f"{info.name} was built for the size {info.preprocess.size}, not {size}; build it for that size"
            )
        return _at_size(module, size)
    return copied


def _at_size(backbone: ModuleBackbone, size: tuple[int, int]) -> ModuleBackbone:
    """Probe a network again, at another size; it keeps its maps, its embedding and its stages."""
    info = backbone.info
    probed = ModuleBackbone(
        backbone.model,
        maps=backbone.maps,
        pooled=backbone.pooled,
        size=size,
        mean=info.preprocess.mean,
        std=info.preprocess.std,
        name=info.name.removeprefix(PREFIX),
    )
    preprocess = replace(info.preprocess, size=size)
    probed.info = replace(probed.info, stage_of=info.stage_of, preprocess=preprocess)
    return probed


def as_saved(
    module: nn.Module, name: str, architecture: Mapping[str, Any], preprocess: PreprocessConfig
) -> Backbone:
    """Make the backbone of a saved model of the network that is passed again.

    Args:
        module: The network, or a backbone of it.
        name: The name of the backbone that was saved.
        architecture: Which of its outputs are the features.
        preprocess: How the saved model prepares images.

    Raises:
        BackboneError: It is another network.
    """
    if isinstance(module, ModuleBackbone):
        module = module.model
    if isinstance(module, Backbone) or not name.startswith(PREFIX):
        raise BackboneError(
            f"the saved model's backbone is {name}, not {name_of(module)}; omit backbone"
        )
    return ModuleBackbone(
        module,
        maps=architecture["maps"],
        pooled=architecture["pooled"],
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        name=name.removeprefix(PREFIX),
    )


@contextmanager
def _recording(module: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Record the last outputs of submodules by name within a block."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _args, output: outputs.update({name: output})

    hooks = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _run(
    full: str, module: nn.Module, channels: int, size: tuple[int, int]
) -> tuple[list[tuple[str, bool]], dict[str, Any]]:
    """Run a network on a blank image in evaluation mode.

    Returns:
        The name of each module that is called, and whether it returns, in order; and the outputs by name.
    """
    events: list[tuple[str, bool]] = []

    def note(name: str, returns: bool) -> Callable[..., None]:
        return lambda *_: events.append((name, returns))

    names = [name for name, _ in module.named_modules()]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    images = torch.zeros(1, channels, *size, device=device)
    module.eval()
    hooks = []
    for name in names:
        submodule = module.get_submodule(name)
        hooks.append(submodule.register_forward_pre_hook(note(name, False)))
        hooks.append(submodule.register_forward_hook(note(name, True)))
    try:
        with _recording(module, names) as outputs, torch.no_grad():
            module(images)
    except Exception as error:  # a network of the user's may raise anything
        raise BackboneError(
            f"{full} cannot be run on images of shape {tuple(images.shape)} ({one_line(error)}); pass the size "
            "and the number of channels that it takes"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        module.train()
    return events, outputs


def _find_maps(outputs: Mapping[str, Any], size: tuple[int, int]) -> tuple[str, ...]:
    """Return the names of the last output at each resolution below that of the images."""
    last: dict[tuple[int, ...], str] = {}
    for name, output in outputs.items():
        if name != OUTPUT and isinstance(output, Tensor) and output.ndim == 4:
            height, width = output.shape[2:]
            if 1 < height < size[0] and 1 < width < size[1]:
                last[height, width] = name
    return tuple(last.values())


def _map_shape(full: str, name: str, outputs: Mapping[str, Any]) -> torch.Size:
    output = outputs.get(name)
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise BackboneError(
            f"{full}: maps={name!r} is not a map: {_kind(output)}; name another module"
        )
    return output.shape


def _embedding(full: str, name: str, output: Any) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 4:
        return output.mean((2, 3))
    if not isinstance(output, Tensor) or output.ndim != 2:
        what = f"pooled={name!r}" if name else "its output"
        raise BackboneError(
            f"{full}: {what} is not an embedding: {_kind(output)}; make a ModuleBackbone of it, with pooled=NAME "
            "of a module whose output is one"
        )
    return output


def _kind(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    return "never computed" if output is None else f"of type {type(output).__name__}"


def _check_submodule(full: str, module: nn.Module, name: str) -> None:
    names = [each for each, _ in module.named_modules()]
    if name not in names:
        raise BackboneError(f"{full} has no module {name!r}{near_matches(name, names)}")


def _stage_numbers(
    module: nn.Module,
    events: Sequence[tuple[str, bool]],
    maps: Sequence[str],
    starts: Sequence[str] | None,
) -> dict[str, int]:
    """Number the tensors by stage: a tensor belongs to the stage that its module is first called in.

    Args:
        module: The network.
        events: Calls and returns of its modules.
        maps: Modules that each end a stage, unless ``starts`` is given; the last stage goes on.
        starts: Modules that each begin a stage.
    """
    ends = [name for name, returns in events if returns and name in maps]
    ends = list(dict.fromkeys(ends))[:-1] if starts is None else []
    begins = list(starts or ())
    numbers: dict[str, int] = {}
    number = 0
    for name, returns in events:
        if not returns:
            if name in begins:
                begins.remove(name)
                number += 1
            owner = module.get_submodule(name)
            own = (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False))
            for tensor, _ in own:
                numbers.setdefault(f"{name}.{tensor}" if name else tensor, number)
        elif name in ends:
            ends.remove(name)
            number += 1
    tensors = (name for name, _ in (*module.named_parameters(), *module.named_buffers()))
    return {name: numbers.get(name, number) for name in tensors}
