from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from visiongraft.backbone import Backbone

Check = Callable[[Backbone], None]


@contextmanager
def outputs_by_module(backbone: Backbone) -> Iterator[dict[str, Tensor]]:
    """Record what each module with parameters of its own returns when it is first called."""
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen.setdefault(name, output.detach().clone())

        return hook

    hooks = [
        m.register_forward_hook(record(n))
        for n, m in backbone.named_modules()
        if list(m.parameters(recurse=False)) and not list(m.children())
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _blank(backbone: Backbone, count: int = 2) -> Tensor:
    torch.manual_seed(0)
    info = backbone.info
    return torch.randn(count, info.in_channels, *info.preprocess.size)


def _check_features(backbone: Backbone) -> None:
    """Check the declared facts against the actual features, for any number of images."""
    info = backbone.info
    height, width = info.preprocess.size
    with torch.no_grad():
        maps, pooled = backbone.eval()(_blank(backbone, 3))
    assert pooled.shape == (3, info.embedding_dim)
    assert pooled.isfinite().all()
    assert tuple(m.shape[1] for m in maps) == info.channels
    assert list(info.strides) == sorted(set(info.strides))
    for features, stride in zip(maps, info.strides, strict=True):
        assert features.shape[0] == 3
        # Architectures round up or down where a size is no multiple of the stride; some also
        # lose border rows to convolutions without padding.
        for side, got in ((height, features.shape[2]), (width, features.shape[3])):
            assert -(-side // stride) - 5 <= got <= -(-side // stride) + 1


def _check_stages(backbone: Backbone) -> None:
    """Stages cover every tensor once, and no earlier stage depends on a later one."""
    tensors = dict(chain(backbone.named_parameters(), backbone.named_buffers()))
    stage_of = backbone.info.stage_of
    assert set(stage_of) == set(tensors)
    stages = backbone.stages
    assert stages == ("stem", *(f"stage{i}" for i in range(1, len(stages))))
    first_seen = [stages.index(s) for s in stage_of.values()]
    assert first_seen == sorted(first_seen)
    backbone.eval()
    images = _blank(backbone)
    with torch.no_grad():
        with outputs_by_module(backbone) as before:
            backbone(images)
        for cut in sorted({1, len(stages) // 2, len(stages) - 1}):
            later = {n for n, s in stage_of.items() if stages.index(s) >= cut}
            for name in later:
                if tensors[name].is_floating_point():
                    tensors[name].mul_(0.99).add_(0.001)
            with outputs_by_module(backbone) as after:
                backbone(images)
            for module, output in after.items():
                own = {n for n in tensors if n.rpartition(".")[0] == module}
                assert output.isfinite().all()
                if not own & later:
                    same = torch.equal(output, before[module])
                    assert same, f"{module} depends on a stage from {stages[cut]} on"
            before = after


@pytest.fixture
def check_features() -> Check:
    return _check_features


@pytest.fixture
def check_stages() -> Check:
    return _check_stages
