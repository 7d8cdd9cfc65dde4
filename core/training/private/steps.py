"""DP-SGD: steps whose gradients are clipped image by image, summed and noised by Opacus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn

from visiongraft.adaptation.layers import Adapted, adapter_of
from visiongraft.data.batch import Batch
from visiongraft.data.loader import BatchIndices, shard_batches
from visiongraft.errors import OptionError
from visiongraft.loss_parts import read_parts
from visiongraft.seeds import mix_seed
from visiongraft.training.batches.sources import PhaseBatches
from visiongraft.training.optimizers import PhaseOptimizer, named_parameters
from visiongraft.training.private.accounting import (
    asked_privacy,
    lot_size,
    opacus,
    steps_per_epoch,
)
from visiongraft.training.private.refusals import (
    SAMPLES_TO_COMPARE,
    backward,
    check_gradients,
    refuse_batch_norms,
    refuse_mixing,
)
from visiongraft.training.steps import Steps, add_parts


@dataclass
class PrivateSteps(Steps):
    """Steps of DP-SGD: of each epoch as many as see each image once on average.

    Each image is in a step with the same probability, independently of the others (Poisson sampling), so
    that steps see different numbers of images, and may see none. Batches of a step are accumulated.

    Several processes share the images of each step: all draw the same ones, their sums of clipped gradients are added up,
    and noise is added to the whole once. So a run is the same mechanism, with the same budget, as in one process.

    Attributes:
        optimizer: Opacus' view of the phase's optimizer.
    """

    optimizer: Any = field(default=None)

    def plan(self) -> list[BatchIndices]:
        """Sample the images of the steps of the present epoch, and divide each step into batches and processes."""
        run, processes = self.run, self.accelerator.num_processes
        size = run.config.batch_size * processes
        generator = torch.Generator().manual_seed(self._seed("sample", run.state.epoch))
        sampler = opacus("utils.uniform_sampler").UniformWithReplacementSampler(
            num_samples=len(run.training),
            sample_rate=lot_size(run) / len(run.training),
            generator=generator,
            steps=steps_per_epoch(run),
        )
        steps = [
            shard_batches([lot[i : i + size] for i in range(0, max(1, len(lot)), size)], processes)
            for lot in sampler
        ]
        self.count = len(steps)
        return steps

    def mine(self, steps: list[BatchIndices]) -> list[list[int]]:
        """Return the images of each batch of this process; for one that has none it loads one, and does not count it."""
        rank = self.accelerator.process_index
        return [batch[rank] or [0] for step in steps for batch in step]

    @contextmanager
    def phase(self, optimizers: Sequence[PhaseOptimizer], batches: PhaseBatches) -> Iterator[None]:
        """Keep the gradients of single images within a block, one phase of the run."""
        (each,) = optimizers
        network, privacy = self.run.network, asked_privacy(self.run)
        assert privacy is not None
        network.train()
        refuse_batch_norms(network)
        with _not_in_place(network):
            hooks = _sample_hooks(network)
            try:
                self._check(hooks, named_parameters(each.optimizer), batches)
                self.optimizer = opacus("optimizers").DPOptimizer(
                    each.optimizer,
                    noise_multiplier=self.run.state.privacy["noise_multiplier"],
                    max_grad_norm=privacy.max_grad_norm,
                    expected_batch_size=lot_size(self.run),
                    generator=torch.Generator(self.accelerator.device),
                )
                yield
            finally:
                hooks.cleanup()
                for parameter in network.parameters():
                    vars(parameter).pop("summed_grad", None)
                self.optimizer = None

    def _check(self, hooks: Any, parameters: dict[str, Any], batches: PhaseBatches) -> None:
        count = min(SAMPLES_TO_COMPARE, len(self.run.training))
        plan = [list(range(count)), *([i] for i in range(count))]
        loaded = [
            batch.to(self.accelerator.device) for batch in batches.train(plan, self.run.state.epoch)
        ]
        refuse_mixing(self.run.network, loaded[0], batches.mixes)
        check_gradients(self.run.network, parameters, loaded)
        hooks.set_grad_sample_to_none()

    def _update(
        self, model: nn.Module, each: PhaseOptimizer, step: BatchIndices, batches: Iterable[Batch]
    ) -> dict[str, list[float]]:
        """Clip and sum the gradients of the images of one step, add noise, and make the step.

        The network itself is run, not ``model``, which would average gradients over processes before they are clipped.
        """
        network, rank = self.run.network, self.accelerator.process_index
        sums: dict[str, list[float]] = {}
        for whole, batch in zip(step, batches, strict=True):
            part = whole[rank]
            for parameter in self.optimizer.params:
                parameter.grad_sample = None
            parts = read_parts(network(batch), network.task.name)
            backward(parts)
            for parameter in self.optimizer.params:
                if parameter.grad_sample is None:  # the loss does not reach it
                    parameter.grad_sample = parameter.new_zeros(
                        len(batch.indices), *parameter.shape
                    )
                if not part:
                    parameter.grad_sample = parameter.grad_sample[:0]
            self.optimizer.clip_and_accumulate()
            add_parts(sums, parts, len(part))
        self._check_finite(sums)
        self._add_up()
        self.optimizer.generator.manual_seed(self._seed("noise", self.run.state.steps))
        self.optimizer.add_noise()
        self.optimizer.scale_grad()
        self._spread()
        self._finish(model, each)
        self.optimizer.zero_grad()
        return sums

    def _add_up(self) -> None:
        """Add up the clipped gradients of all processes."""
        if self.accelerator.num_processes > 1:
            for parameter in self.optimizer.params:
                parameter.summed_grad = self.accelerator.reduce(parameter.summed_grad)

    def _spread(self) -> None:
        """Let all processes make the step of the first, whose generator may draw other noise than theirs."""
        if self.accelerator.num_processes > 1:
            for parameter in self.optimizer.params:
                parameter.grad.copy_(broadcast(parameter.grad.contiguous()))

    def _clip(self, each: PhaseOptimizer) -> None:
        """Do nothing: the gradients of single images have been clipped."""

    def _seed(self, *key: int | str) -> int:
        return mix_seed(self.run.state.privacy["noise_seed"], *key)


def _sample_hooks(network: nn.Module) -> Any:
    """Let Opacus keep the gradients of single images; names and places of modules stay as they are."""
    base: Any = opacus("grad_sample").GradSampleHooks

    class Hooks(base):  # type: ignore[misc]
        def iterate_submodules(self, module: nn.Module) -> Iterator[nn.Module]:
            if isinstance(module, Adapted) and _trains_itself(module):
                yield module  # the layer and its adapter are one function of the images
            elif any(p.requires_grad for p in module.parameters(recurse=False)):
                yield from super().iterate_submodules(module)
            else:
                for child in module.children():
                    yield from self.iterate_submodules(child)

        def capture_activations_hook(
            self, module: nn.Module, inputs: list[Tensor], output: Tensor
        ) -> None:
            if not isinstance(module, Adapted):
                super().capture_activations_hook(module, inputs, output)
            elif self.hooks_enabled and module.training and torch.is_grad_enabled():
                kept = vars(module).setdefault("activations", [])
                kept.append([each.detach() for each in inputs])
                for parameter in module.parameters():
                    if parameter.requires_grad:
                        parameter._forward_counter += 1  # type: ignore[attr-defined]

        def rearrange_grad_samples(self, **how: Any) -> tuple[list[Tensor], Tensor]:
            # Opacus 1.6 misreads convolutions whose channels are last in memory.
            activations, gradients = super().rearrange_grad_samples(**how)
            return [each.contiguous() for each in activations], gradients.contiguous()

    try:
        return Hooks(network, strict=False)
    except NotImplementedError as error:
        raise OptionError(f"privacy: a layer that trains is not supported ({error})") from error


def _trains_itself(layer: nn.Module) -> bool:
    """Check whether parameters of a layer or of its adapter train that no submodule of them owns."""
    own = (*layer.parameters(recurse=False), *adapter_of(layer).parameters(recurse=False))
    return any(parameter.requires_grad for parameter in own)


@contextmanager
def _not_in_place(network: nn.Module) -> Iterator[None]:
    """Let activations return new tensors within a block: hooks of modules do not see through changed ones."""
    changed: list[Any] = [m for m in network.modules() if vars(m).get("inplace") is True]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True
