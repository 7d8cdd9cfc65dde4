"""A site: it trains the declared tensors on its own images, starting from those of the server."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from visiongraft.backbone import DATA_LICENSE, UNKNOWN, license_warning
from visiongraft.errors import OptionError
from visiongraft.hookspecs import hookimpl
from visiongraft.model import TransferModel
from visiongraft.network import Network
from visiongraft.plugins.federated.common import (
    asked_of_fit,
    begin_phase,
    digest_of,
    frozen_digest,
    state_licenses,
)
from visiongraft.plugins.federated.config import FederatedConfig, check_license, check_site_name
from visiongraft.plugins.federated.exchange import Declared, decode, encode
from visiongraft.plugins.federated.spending import Spending
from visiongraft.preparation.arguments import new_settings
from visiongraft.preparation.building import check_streams, prepare_run
from visiongraft.preparation.datasets import Given
from visiongraft.preparation.starting import find_start
from visiongraft.registry.callbacks import listen
from visiongraft.registry.manager import plugins
from visiongraft.saving.files import through_json
from visiongraft.saving.tensor_files import read_tensors, write_tensors
from visiongraft.seeds import mix_seed
from visiongraft.training.batches.sources import ImageBatches
from visiongraft.training.engine import Engine
from visiongraft.training.evaluation import scalars
from visiongraft.training.execution.devices import make_accelerator
from visiongraft.training.measuring.own_metrics import read_metrics
from visiongraft.training.private.refusals import refuse_settings
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run
from visiongraft.training.trainable import selected_parameters
from visiongraft.tuning.batch_finder import set_batch_size

log = logging.getLogger("visiongraft")

NORMS = "norms"  # all layers that normalize, with their statistics
NORM_LAYERS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Trained:
    """What a site sends after its training, and says about it.

    Attributes:
        payload: The declared tensors.
        images: Number of training images.
        metrics: Metrics of its own validation images after its training.
        frozen: Digest of what its receipts show to be unchanged.
    """

    payload: dict[str, bytes]
    images: int
    metrics: dict[str, float]
    frozen: str


class Site:
    """A site with its images.

    Args:
        name: Its name.
        data: Its dataset.
        config: The settings of all sites.
        folder: Where what stays at the site is kept, and its final model is written.
        license: License of its images; ``None`` for that of all sites, or the one that the card of the dataset states.

    Attributes:
        declared: The tensors that travel.
        license: License of its images; ``"unknown"`` if none is stated.

    Raises:
        VisiongraftError: The dataset or a setting is invalid.
    """

    def __init__(
        self,
        name: str,
        data: Any,
        config: FederatedConfig,
        folder: Path,
        license: str | None = None,
    ) -> None:
        check_site_name(name)
        if license is not None:
            check_license(name, license)
        self.name, self.config, self.folder = name, config, folder
        self._scratch = TemporaryDirectory(prefix="visiongraft-site-")
        scratch = Path(self._scratch.name)
        asked = asked_of_fit(config, data=data)
        asked["data_license"] = license or asked["data_license"]
        origin = find_start(asked)
        settings, task, schedule = new_settings(asked, origin)
        check_streams(settings, task)
        self.accelerator = make_accelerator(settings)
        given = Given(data, start=origin, metrics=read_metrics(asked["metrics"]))
        self.run, self.found = prepare_run(
            given, task, settings, schedule, self.accelerator, None, scratch
        )
        set_batch_size(self.run, asked["batch_size"], self.accelerator)
        self.network = self.run.network
        self.license = str(self.network.backbone.info.provenance.get(DATA_LICENSE, UNKNOWN))
        check_license(name, self.license)
        begin_phase(self.network, schedule, self.run.config)
        self.spending: Spending | None = None
        if settings.privacy is not None:
            refuse_settings(self.run)
            self.spending = Spending.of(self.run, self.found, config, name, folder)
        trained = _changing(self.network)
        personal = _personal(self.network, config.personal) & trained.keys()
        self.personal = sorted(personal)
        travels = {n: t for n, t in trained.items() if n not in personal}
        if not travels:
            raise OptionError(
                f"personal={list(config.personal)}: nothing that trains is left to travel"
            )
        parameters = dict(self.network.named_parameters())
        options = through_json(self.network.task.options())
        asked_options = through_json(self.found.unbound.options())
        self.declared = Declared(
            {name: tuple(tensor.shape) for name, tensor in travels.items()},
            tuple(name for name in travels if name not in parameters),
            frozen_digest(self.network),
            through_json(self.network.task.metadata()),
            plugins().name_of("task", type(self.network.task)),
            options,
            tuple(name for name in options if options[name] != asked_options.get(name)),
        )
        self._warn()

    def _warn(self) -> None:
        """Log once what each round would log again, but for what the server says of licenses."""
        of_server = license_warning("", {"license": "", DATA_LICENSE: self.license})
        for line in self.run.warnings:
            if line not in of_server:
                log.warning("site %r: %s", self.name, line)
        self.run.warnings = ()

    def values(self) -> dict[str, bytes]:
        """Return the present values of the tensors that travel."""
        state = self.network.state_dict()
        return encode({name: _array(state[name]) for name in self.declared.shapes})

    def train(self, payload: Mapping[str, bytes], number: int) -> Trained:
        """Train from the values of the server.

        Args:
            payload: The global tensors.
            number: Number of the round, from 0.

        Returns:
            What to send.

        Raises:
            ExchangeError: The payload holds something else.
            ReceiptError: Something frozen changed.
        """
        self._load(payload, number)
        run = self.run
        seed = mix_seed(self.config.seed, "site", self.name, number) % 2**31
        state = RunState() if self.spending is None else self.spending.state(payload, number)
        run.config, run.state = replace(run.config, seed=seed), state
        engine = _SiteEngine(run, self.accelerator, self.config.aggregation.mu)
        engine.train()
        self._keep_personal(number)
        (receipt,) = run.state.receipts
        metrics = scalars(run.history[-1]["validation"])
        if self.spending is not None:
            metrics["epsilon"] = self.spending.facts()["epsilon"]
        return Trained(self.values(), len(run.training), metrics, digest_of(receipt["frozen"]))

    def finish(self, payload: Mapping[str, bytes], licenses: Mapping[str, str]) -> dict[str, float]:
        """Measure the final values on the site's own validation images, and save its model.

        Args:
            payload: The final global tensors; what is personal stays that of the site.
            licenses: Licenses of the images of all sites that took part, which the model states.

        Returns:
            Metrics, and the number of images as ``"images"``.
        """
        self._load(payload, self.config.rounds)
        self.network.held_in_eval = ()
        self.network.eval()
        engine = _SiteEngine(self.run, self.accelerator)
        results = engine.measuring.all(ImageBatches(engine.images, augment=False)).validation
        metrics = scalars(results)
        facts = {
            "data": self._data_facts(),
            **({} if self.spending is None else {"privacy": self.spending.facts()}),
            "federated": {
                **{k: v for k, v in asdict(self.config).items() if k not in ("fit", "sites")},
                "site": self.name,
                "tensors that travelled": len(self.declared.shapes),
                "personal tensors": len(self.personal),
            },
            "training": {"schedule": self.run.config.schedule, "epochs": self.run.config.epochs},
            "metrics": results,
        }
        state_licenses(self.network, licenses)
        model = TransferModel(self.network, facts, self.run.validation, None)
        model.save(self.folder / "model")
        return {**metrics, "images": float(len(self.run.validation))}

    def _data_facts(self) -> dict[str, Any]:
        """Return what is known about the data; with privacy nothing but how many images there are."""
        if self.spending is not None:
            return {
                "training images": len(self.run.training),
                "validation images": len(self.run.validation),
            }
        return {**self.found.splits.facts, **self.found.checked.report.counts()}

    def close(self) -> None:
        """Remove temporary files."""
        self._scratch.cleanup()

    def _load(self, payload: Mapping[str, bytes], number: int) -> None:
        values = decode(payload, self.declared)
        state = self.network.state_dict()
        kept = self._kept_before(number)
        for name, array in values.items():
            state[name].copy_(torch.from_numpy(array))
        for name, tensor in kept.items():
            state[name].copy_(tensor)

    def _keep_personal(self, number: int) -> None:
        if self.personal:
            state = self.network.state_dict()
            path = self.folder / f"personal-{number:05d}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {name: state[name] for name in self.personal}, {"round": number})

    def _kept_before(self, number: int) -> dict[str, Tensor]:
        """Return the personal tensors as they were after the last round before this one."""
        files = sorted(self.folder.glob("personal-*.safetensors")) if self.personal else []
        before = [path for path in files if int(path.stem.partition("-")[2]) < number]
        return read_tensors(before[-1])[0] if before else {}


class _SiteEngine(Engine):
    """An engine whose head starts from the global values, and that pulls towards them."""

    def __init__(self, run: Run, accelerator: Any, mu: float = 0.0) -> None:
        super().__init__(run, listen([_Proximal(self, mu)]), accelerator)

    def start_head(self, batches: Any) -> None:
        """Leave the head as the server sent it."""


class _Proximal:
    """Adds the gradient of ``mu / 2 * |w - w_global|^2`` before each step (FedProx)."""

    def __init__(self, engine: Engine, mu: float) -> None:
        self.engine, self.mu = engine, mu

    @hookimpl
    def phase_started(self) -> None:
        if not self.mu:
            return
        for optimizer in self.engine.optimizers:
            held = [p for group in optimizer.param_groups for p in group["params"]]
            begun = [p.detach().clone() for p in held]
            optimizer.register_step_pre_hook(partial(_pull, held, begun, self.mu))


def _pull(held: list[Tensor], begun: list[Tensor], mu: float, *_: Any) -> None:
    for parameter, start in zip(held, begun, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - start, alpha=mu)


def _changing(network: Network) -> dict[str, Tensor]:
    """Return what a phase changes: parameters that train, and statistics that are updated."""
    state = network.state_dict()
    found = {name: state[name] for name in state if name in network.trained}
    held = {id(module) for module in network.held_in_eval}
    for prefix, module in network.named_modules():
        if isinstance(module, _NormBase) and id(module) not in held:
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    found[f"{prefix}.{name}"] = buffer
    return dict(sorted(found.items()))


def _personal(network: Network, asked: tuple[str, ...]) -> set[str]:
    found = set(selected_parameters(network, [a for a in asked if a != NORMS], "personal"))
    layers = {n: m for n, m in network.named_modules() if isinstance(m, NORM_LAYERS)}
    if NORMS in asked:
        if not layers:
            raise OptionError("personal='norms': the network has no layer that normalizes")
        for prefix, module in layers.items():
            found |= {f"{prefix}.{name}" for name in module.state_dict()}
    # Statistics stay with the parameters of their layer.
    for prefix, module in layers.items():
        own = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
        if own and own <= found:
            found |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    return found


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()
