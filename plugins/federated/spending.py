"""What the differentially private trainings of a site spend over all rounds, and the secret seed of their noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from visiongraft.data.parsing import read_json
from visiongraft.errors import ArtifactError
from visiongraft.plugins.federated.config import FederatedError
from visiongraft.saving.files import write_json
from visiongraft.seeds import mix_seed
from visiongraft.training.private.accounting import begin_privacy, privacy_facts, steps_per_epoch
from visiongraft.training.resuming.checkpoint import RunState
from visiongraft.training.run import Run

FILE = "privacy.json"  # it stays at the site


@dataclass
class Spending:
    """The privacy budget of a site, which all its rounds share.

    Each training draws noise of its own. One that is repeated from the same global values, as after a crash, repeats its noise,
    too, so that it sends the same values again and spends nothing more; one from other values counts as another.

    Attributes:
        path: Where it is kept.
        run: The run of the site.
        rounds: Number of trainings that the noise was chosen for.
        drawn: Seed, noise multiplier and sample rate.
        trainings: Digest of what each training began with.
    """

    path: Path
    run: Run
    rounds: int
    drawn: dict[str, Any]
    trainings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, rounds: int, site: str, folder: Path) -> Spending:
        """Read what the site has spent so far, or choose its noise for all rounds.

        Args:
            run: The run of the site, with its final settings.
            rounds: Number of rounds.
            site: Its name.
            folder: Its folder.

        Raises:
            OptionError: No noise is large enough.
            ArtifactError: What was kept is damaged, or belongs to other settings.
        """
        path, asked = folder / FILE, run.config.privacy or {}
        if path.is_file():
            kept = read_json(path)
            if not isinstance(kept, Mapping) or kept.get("of") != _begun(run, rounds):
                raise ArtifactError(
                    f"{path} is of a training with other privacy, rounds or images, whose budget it counts; choose another "
                    "folder, whose epsilon adds to it"
                )
            return cls(path, run, rounds, dict(kept["drawn"]), list(kept["trainings"]))
        begin_privacy(run, rounds)
        drawn = dict(run.state.privacy)
        if asked.get("noise_seed") is not None:
            drawn["noise_seed"] = mix_seed(drawn["noise_seed"], "site", site)
        return cls(path, run, rounds, drawn)

    def state(self, payload: Mapping[str, bytes], number: int) -> RunState:
        """Count a training, before it begins, and return the state that it begins with.

        Args:
            payload: The global tensors.
            number: Number of the round.

        Raises:
            FederatedError: The budget is spent.
        """
        content = hashlib.sha256(str(number).encode())
        for name in sorted(payload):
            content.update(payload[name])
        digest = content.hexdigest()
        if digest not in self.trainings:
            if len(self.trainings) == self.rounds:
                raise FederatedError(
                    f"its privacy budget is spent by {self.rounds} trainings; it does not train again"
                )
            self.trainings.append(digest)
            self._write()
        seed = mix_seed(self.drawn["noise_seed"], "training", self.trainings.index(digest))
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
