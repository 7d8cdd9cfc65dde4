"""What sites declare is checked, and kept when a training is resumed without them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visiongraft.errors import VisiongraftError
from visiongraft.plugins.federated.config import FederatedConfig, check_license, check_site_name
from visiongraft.plugins.federated.exchange import Declared, ExchangeError, encode
from visiongraft.plugins.federated.server import Hello, Reply, run_rounds
from visiongraft.plugins.federated.server_model import facts_of
from visiongraft.plugins.federated.site import Site

DECLARED = Declared({"w": (2,)}, (), "f", {"class_names": ["a"]}, "classification", {"x": 1})
PRIVATE = {"privacy": {"epsilon": 3, "delta": 1e-5, "noise_seed": 1}}


def hello(license: str = "CC0-1.0", images: int = 10, declared: Declared = DECLARED) -> Hello:
    return Hello(declared, images, encode({"w": np.zeros(2, np.float32)}), license)


class Sites:
    """Sites that send ones, and die in the second round if they should."""

    def __init__(self, sites: Mapping[str, Hello], die: bool = False) -> None:
        self.sites, self.die = sites, die

    def hello(self) -> tuple[dict[str, Hello], dict[str, str]]:
        return dict(self.sites), {}

    def train(
        self, sites: Sequence[str], payload: Any, number: int
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        if self.die and number == 1:
            return {}, {}
        ones = encode({"w": np.ones(2, np.float32)})
        return {name: Reply(ones, self.sites[name].images, {}, "f") for name in sites}, {}

    def finish(self, sites: Sequence[str], payload: Any, licenses: Any) -> Any:
        return {name: {"images": 1.0} for name in sites}, {}


@pytest.fixture
def stopped(tmp_path: Path) -> Any:
    """A training of two sites that stopped after its first round; returns what resumes it."""
    config = FederatedConfig.of({"fit": {}, "rounds": 2})
    with pytest.raises(VisiongraftError, match="state is kept"):
        run_rounds(config, tmp_path, Sites({"a": hello(), "b": hello("CC-BY-NC-4.0")}, die=True))
    return lambda **sites: run_rounds(config, tmp_path, Sites(sites), resume=True)


def test_the_license_of_a_site_that_is_absent_now_is_kept(stopped: Any) -> None:
    assert stopped(a=hello())["licenses"] == {"a": "CC0-1.0", "b": "CC-BY-NC-4.0"}


@pytest.mark.parametrize(
    "other, reason",
    [
        (hello("MIT"), "its images have the license 'MIT', and had 'CC-BY-NC-4.0' before"),
        (hello("CC-BY-NC-4.0", 10**9), "it has 1000000000 training images, and had 10 before"),
    ],
)
def test_a_site_that_declares_something_else_on_resume_does_not_take_part(
    stopped: Any, other: Hello, reason: str
) -> None:
    result = stopped(a=hello(), b=other)
    assert result["failed"] == {"b": reason}
    assert [record["sites"] for record in result["rounds"]] == [{"a": 10, "b": 10}, {"a": 10}]
    assert result["licenses"]["b"] == "CC-BY-NC-4.0"


def test_sites_whose_tasks_have_other_options_are_refused(tmp_path: Path) -> None:
    """The server would publish the model with those of the first site."""
    other = replace(DECLARED, task_options={"x": 2})
    assert DECLARED.difference(other) == "the option x of the task is 1 here and 2 there"
    alone = replace(other, bound=("x",))
    assert DECLARED.difference(alone) and not replace(DECLARED, bound=("x",)).difference(alone)


def test_options_that_images_set_may_differ(settings: Any, sites: Any, tmp_path: Path) -> None:
    options = {"augment": "none", "class_weights": "balanced"}
    found = Site("east", sites["east"], settings({"task_options": options}), tmp_path).declared
    assert "loss_weights" in found.bound and "augment" not in found.bound
    assert Declared.of(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    "change",
    [
        {"task_options": "abc"},
        {"task": 3},
        {"shapes": {"w": 2}},
        {"shapes": {"w": [-1]}},
        {"buffers": [3]},
        {"bound": None},
    ],
)
def test_a_declaration_of_other_types_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(ExchangeError, match="the declaration has"):
        Declared.of({**DECLARED.to_json(), **change})
    assert Declared.of(DECLARED.to_json()) == DECLARED


def record(**epsilons: Any) -> dict[str, Any]:
    metrics = {site: {"epsilon": e} for site, e in epsilons.items() if e is not None}
    return {"round": 0, "sites": dict.fromkeys(epsilons, 10), "metrics": metrics}


def test_the_model_of_the_server_says_that_the_noise_has_a_known_seed() -> None:
    config = FederatedConfig.of({"fit": PRIVATE, "rounds": 2})
    facts = facts_of(config, [record(a=1.5, b=1.2)], {}, 3)["privacy"]
    assert facts["epsilon"] == 1.5 and "for experiments only" in facts["noise"]


@pytest.mark.parametrize("epsilon", [None, float("nan"), float("inf")])
def test_privacy_is_stated_only_if_every_site_states_its_epsilon(
    epsilon: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = FederatedConfig.of({"fit": PRIVATE, "rounds": 2})
    with caplog.at_level(logging.WARNING, "visiongraft"):
        assert "privacy" not in facts_of(config, [record(a=1.5, b=epsilon)], {}, 3)
    assert "site 'b' sent no epsilon in round 1" in caplog.text


@pytest.mark.parametrize("text", ["", " ", "MIT\nand more", "x" * 501, 3])
def test_a_license_that_is_no_line_of_text_is_refused(
    settings: Any, sites: Any, tmp_path: Path, text: Any
) -> None:
    with pytest.raises(VisiongraftError, match="not the name of a license"):
        check_license("east", text)
    with pytest.raises(VisiongraftError, match="not the name of a license"):
        Site("east", sites["east"], settings(), tmp_path, license=text)


def test_a_name_of_a_site_is_limited_in_bytes(tmp_path: Path) -> None:
    check_site_name("界" * 33)
    with pytest.raises(VisiongraftError, match="at most 100 bytes"):
        check_site_name("界" * 34)
