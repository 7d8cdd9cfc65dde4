"""What the differentially private trainings of a site spend over all rounds, and the secret seed of their noise."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visiongraft.data.digests import digest_of
from visiongraft.data.parsing import read_json
from visiongraft.errors import ArtifactError
from visiongraft.plugins.federated.config import FederatedConfig, FederatedError
from visiongraft.preparation.datasets import RunData
from visiongraft.preparation.inputs import inputs_of
from visiongraft.saving.files import write_json
from visiongraft.seeds import mix_seed
from visiongraft.training.freezing import digest
from visiongraft.training.private.accounting import begin_privacy, privacy_facts, steps_per_epoch
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run

FILE = "privacy.json"  # it stays at the site


@dataclass
class Spending:
    """The privacy budget of a site, which all its rounds share.

    Each training draws noise of its own. One that is repeated from the same values with the same images and settings, as after a
    crash, repeats its noise, too, so that it sends the same values again and spends nothing more. Any other counts as another:
    with the same noise, the difference of what both send would show the image that was replaced.

    Attributes:
        path: Where it is kept.
        run: The run of the site.
        rounds: Number of trainings that the noise was chosen for.
        inputs: Digest of the images, settings, files and code that all its trainings compute from.
        drawn: Seed, noise multiplier and sample rate.
        trainings: Digest of all that each training computed from, keyed by the seed.
    """

    path: Path
    run: Run
    rounds: int
    inputs: str
    drawn: dict[str, Any]
    trainings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, run: Run, data: RunData, config: FederatedConfig, site: str, folder: Path
    ) -> Spending:
        """Read what the site has spent so far, or choose its noise for all rounds.

        Args:
            run: The run of the site, with its final settings.
            data: Its data.
            config: The settings of all sites.
            site: Its name.
            folder: Its folder.

        Raises:
            OptionError: No noise is large enough.
            ArtifactError: What was kept is damaged, or belongs to other settings.
        """
        path, asked, rounds = folder / FILE, run.config.privacy or {}, config.rounds
        inputs = _inputs(run, data, config)
        if path.is_file():
            kept = read_json(path)
            if not isinstance(kept, Mapping) or kept.get("of") != _begun(run, rounds):
                raise ArtifactError(
                    f"{path} is of a training with other privacy, rounds or images, whose budget it counts; choose another "
                    "folder, whose epsilon adds to it"
                )
            return cls(path, run, rounds, inputs, dict(kept["drawn"]), list(kept["trainings"]))
        begin_privacy(run, rounds)
        drawn = dict(run.state.privacy)
        if asked.get("noise_seed") is not None:
            drawn["noise_seed"] = mix_seed(drawn["noise_seed"], "site", site)
        return cls(path, run, rounds, inputs, drawn)

    def state(self, payload: Mapping[str, bytes], number: int) -> RunState:
        """Count a training, before it begins, and return the state that it begins with.

        Args:
            payload: The global tensors.
            number: Number of the round.

        Raises:
            FederatedError: The budget is spent.
        """
        begun = self._begun_with(payload, number)
        if begun not in self.trainings:
            if len(self.trainings) == self.rounds:
                raise FederatedError(
                    f"its privacy budget is spent by {self.rounds} trainings; it does not train again"
                )
            self.trainings.append(begun)
            self._write()
        seed = mix_seed(self.drawn["noise_seed"], "training", self.trainings.index(begun))
        return RunState(privacy={**self.drawn, "noise_seed": seed})

    def facts(self) -> dict[str, Any]:
        """Return what all trainings so far guarantee together, for model card and certificate."""
        steps = len(self.trainings) * steps_per_epoch(self.run) * self.run.config.epochs
        kept = self.run.state
        self.run.state = replace(kept, privacy=self.drawn, steps=steps)
        try:
            found = privacy_facts(self.run)
        finally:
            self.run.state = kept
        own = "each training image of this site; other sites account for theirs"
        return {**found, "protects": own, "rounds": len(self.trainings)}

    def _begun_with(self, payload: Mapping[str, bytes], number: int) -> str:
        """Return a digest of all that a training computes from, which tells nothing to whoever lacks the seed."""
        key = str(self.drawn["noise_seed"]).encode()
        content = hmac.new(key, f"{number} {self.inputs}".encode(), "sha256")
        for name in sorted(payload):
            content.update(f"{name} {len(payload[name])} ".encode() + payload[name])
        for name, tensor in sorted(self.run.network.state_dict().items()):
            if name not in payload:  # frozen, or personal
                content.update(f"{name} {digest(tensor)} ".encode())
        return content.hexdigest()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        begun = _begun(self.run, self.rounds)
        write_json(self.path, {"of": begun, "drawn": self.drawn, "trainings": self.trainings})


def _begun(run: Run, rounds: int) -> dict[str, Any]:
    """Return what the noise was chosen for."""
    return {
        "privacy": run.config.privacy,
        "rounds": rounds,
        "epochs": run.config.epochs,
        "images": len(run.training),
        "steps of an epoch": steps_per_epoch(run),
    }


def _inputs(run: Run, data: RunData, config: FederatedConfig) -> str:
    """Return a digest of the images, settings, files and code that a training computes from."""
    found = inputs_of(run, data)
    images = [(each.image, each.target) for each in data.checked.digests["training"]]
    settings = (dict(config.fit), config.method, config.seed)
    return digest_of(
        (images, settings, found.task_options, found.weights, found.code, found.transfer_source)
    )
