"""The settings of federated training, read from one file that server and sites share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from visiongraft.config import AUTO, fit_defaults
from visiongraft.data.parsing import read_json, read_yaml
from visiongraft.errors import OptionError, VisiongraftError, one_line, shorten
from visiongraft.options import check_integer, is_number, refuse_unknown
from visiongraft.plugins.federated.aggregation import Method, find_method
from visiongraft.privacy import Privacy

# Settings of `fit` that sites do not take: they concern one run on one dataset.
NOT_OF_SITES = (
    "data",
    "budget",
    "evaluate_on",
    "streams",
    "select",
    "swa",
    "wise_ft",
    "patience",
    "checkpoint_every",
    "keep_epochs",
    "groups",
    "group_training",
)

LONGEST = 100  # bytes of the name of a site, so that a name of a file can have it and more
LONGEST_LICENSE = 500  # characters
SITE_NAME = re.compile(rf"[^\s./\\:](?:[^/\\:]{{0,{LONGEST - 2}}}[^\s/\\:])?")  # such as "site 1"

OR_NONE = ("weights", "clip_norm", "privacy")  # for which the text "none" stands for none


class FederatedError(VisiongraftError):
    """Federated training cannot go on."""

    exit_code = 1


@dataclass(frozen=True)
class FederatedConfig:
    """The settings of federated training.

    Attributes:
        fit: Arguments of ``fit`` for the sites, such as task, backbone and schedule. ``epochs`` are those of
            one round; the schedule has one phase. ``privacy`` is the budget of each site for all rounds.
        rounds: Number of rounds, at least 1.
        method: How the server combines what sites send, with or without options: ``fedavg``,
            ``fedprox(mu=0.01)``, ``fedadam(learning_rate=0.01)``, ``median`` or ``trimmed_mean(fraction=0.2)``.
        sites: Paths of the datasets of the sites by name, for a simulation.
        licenses: Licenses of the images of sites by name, for a simulation, of sites that state another than
            ``data_license`` in ``fit``, or than the card of their dataset.
        fraction: Fraction of the sites that train in each round, in (0, 1].
        least_sites: Sites whose updates a round needs, at least 1.
        personal: What stays at each site though it trains: ``norms`` (FedBN), ``head``, or names of
            stages and patterns over names of parameters.
        secure_aggregation: Whether the server of a deployment sees no single update, but their mean.
        timeout: Seconds that a round waits for sites of a deployment.
        seed: Seed of the choice of sites, and of their training.

    Raises:
        OptionError: A value is invalid.
    """

    fit: dict[str, Any]
    rounds: int
    method: str = "fedavg"
    sites: dict[str, str] = field(default_factory=dict)
    licenses: dict[str, str] = field(default_factory=dict)
    fraction: float = 1.0
    least_sites: int = 1
    personal: tuple[str, ...] = ()
    secure_aggregation: bool = False
    timeout: float = 3600.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("rounds", self.rounds, least=1)
        check_integer("least_sites", self.least_sites, least=1)
        check_integer("seed", self.seed, least=0)
        if not is_number(self.fraction) or not 0 <= self.fraction <= 1:
            raise OptionError(f"fraction={self.fraction!r} is not in (0, 1]")
        if not self.fraction:
            raise OptionError("fraction=0 lets no site train")
        if not is_number(self.timeout) or self.timeout <= 0:
            raise OptionError(f"timeout={self.timeout!r} is not a positive number of seconds")
        if not isinstance(self.secure_aggregation, bool):
            raise OptionError(
                f"secure_aggregation={self.secure_aggregation!r} is neither true nor false"
            )
        if not isinstance(self.fit, Mapping) or not isinstance(self.sites, Mapping):
            raise OptionError("fit and sites are not settings by name")
        for name in self.sites:
            check_site_name(name)
        if self.fit.get("schedule") == AUTO:
            raise OptionError(
                "federated: schedule='auto' chooses by a probe at each site; name one with a single phase, such as linear_probe"
            )
        if "privacy" in self.fit:
            fit = {**self.fit, "privacy": _privacy(self.fit)}
            object.__setattr__(self, "fit", fit)
        _check_licenses(self.licenses, self.sites)
        known = [name for name in fit_defaults() if name not in NOT_OF_SITES]
        refuse_unknown("federated: fit", map(str, self.fit), [*known, "learning_rate"])
        method = find_method(self.method)
        if self.secure_aggregation:
            _check_secure(method, self.least_sites)

    @property
    def aggregation(self) -> Method:
        """How the server combines what sites send."""
        return find_method(self.method)

    @classmethod
    def read(cls, path: Path) -> FederatedConfig:
        """Read a .toml, .yaml or .json file; relative paths are relative to the working folder.

        Raises:
            DataError: The file is missing or damaged.
            OptionError: A setting is unknown, missing or invalid.
        """
        return cls.of(_parsed(path), str(path))

    @classmethod
    def of(cls, values: Any, where: str = "federated") -> FederatedConfig:
        """Make the settings from values by name, as a file has them."""
        if not isinstance(values, Mapping):
            raise OptionError(f"{where} contains no settings by name, such as rounds = 5")
        refuse_unknown(where, map(str, values), [each.name for each in fields(cls)])
        for name in ("fit", "rounds"):
            if name not in values:
                raise OptionError(f"{where} lacks {name!r}")
        personal = values.get("personal", ())
        several = (personal,) if isinstance(personal, str) else personal
        if not isinstance(several, (list, tuple)) or not all(isinstance(n, str) for n in several):
            raise OptionError(
                f"personal={personal!r} is not 'norms', 'head', or names of stages and parameters"
            )
        fit = values["fit"]
        if isinstance(fit, Mapping):  # TOML has no null
            fit = {n: None if n in OR_NONE and v == "none" else v for n, v in fit.items()}
        return cls(**{**values, "fit": fit, "personal": tuple(several)})


def check_site_name(name: Any) -> None:
    """Refuse names of sites that are no names of folders.

    Args:
        name: The name.

    Raises:
        OptionError: It is empty, too long, begins with a dot, or contains separators or characters that are not shown.
    """
    if (
        not isinstance(name, str)
        or not SITE_NAME.fullmatch(name)
        or not name.isprintable()
        or len(name.encode()) > LONGEST
    ):
        raise OptionError(
            f"{shorten(repr(name))} is no name of a site, which is that of a folder, too: at most {LONGEST} bytes of "
            "letters, digits and signs, without separators, and no dot at the beginning"
        )


def check_license(site: str, text: Any) -> None:
    """Refuse licenses that are no line of text, which all models state.

    Args:
        site: Name of the site.
        text: The license of its images.

    Raises:
        OptionError: It is empty, too long, or has characters that are not shown.
    """
    fits = isinstance(text, str) and text.isprintable() and len(text) <= LONGEST_LICENSE
    if not fits or not text.strip():
        raise OptionError(
            f"licenses: {site}={shorten(repr(text))} is not the name of a license, such as 'CC-BY-4.0', of at most "
            f"{LONGEST_LICENSE} characters"
        )


def _privacy(fit: Mapping[str, Any]) -> dict[str, Any] | None:
    """Check what asks for privacy, and return it as JSON values."""
    privacy = Privacy.read(fit["privacy"])
    if privacy is not None and fit.get("batch_size") == "auto":
        raise OptionError(
            "privacy: the noise depends on the batch size; pass a number as batch_size"
        )
    return None if privacy is None else privacy.to_json()


def _check_licenses(licenses: Any, sites: Mapping[str, str]) -> None:
    if not isinstance(licenses, Mapping):
        raise OptionError("licenses are not texts by name of the site")
    for site in licenses:
        if site not in sites:
            raise OptionError(
                f"licenses: {site!r} is no site; sites are {', '.join(sites) or 'not named'}"
            )
    for site, text in licenses.items():
        check_license(site, text)


def _check_secure(method: Method, least_sites: int) -> None:
    if method.needs_each:
        raise OptionError(
            f"secure_aggregation: method {method.name!r} needs the values of each site, and the server sees their mean "
            "only; choose fedavg, fedprox or fedadam"
        )
    if least_sites < 2:
        raise OptionError(
            f"secure_aggregation: least_sites={least_sites}, and the mean over one site is what it sends; set at least 2, "
            "better 3"
        )


def _parsed(path: Path) -> Any:
    import tomllib

    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_json(path)
    if suffix in (".yaml", ".yml"):
        return read_yaml(path)
    if suffix != ".toml":
        raise OptionError(f"{path}: expected a .toml, .yaml or .json file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read: {one_line(error)}") from error
