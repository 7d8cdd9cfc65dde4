"""The server learns the mean of the updates by Flower's SecAgg+, and no single one; with faults planted at sites."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.federated.flower_environment import flower_environment
from visiongraft.errors import VisiongraftError
from visiongraft.plugins.federated.flower_app import write_app
from visiongraft.plugins.federated.server import STATE
from visiongraft.plugins.federated.simulation import simulate
from visiongraft.saving.tensor_files import read_tensors

LEVELS = 2**22  # of a value; masks are spread over 2^32
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "dies at the start": {"east": {"setup": "dies"}},
    "dies in training": {"east": {"collect_masked_vectors": "dies"}},
    "sends garbage": {"east": {"share_keys": "garbage"}},
    "sends other shapes": {"east": {"collect_masked_vectors": "shape"}},
    "sends wrong shares": {"east": {"unmask": "shares"}, "north": {"unmask": "shares"}},
    "two die": {"east": {"unmask": "dies"}, "north": {"unmask": "dies"}},
    "changes too much": {},
}
PLAIN = {  # without secure aggregation
    "plain: dies": {"east": {"train": "dies"}},
    "plain: nonsense": {"east": {"train": "nonsense"}},
    "plain: empty": {"east": {"train": "empty", "evaluate": "nonsense"}},
    "plain: renamed": {"east": {"query": "renamed"}},
}


@pytest.fixture(scope="module")
def found(
    settings: Any, sites: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What came of all cases, by name."""
    folder = tmp_path_factory.mktemp("secure")
    cases = []
    for name, faults in {**FAULTS, **PLAIN}.items():
        fit = {"optimizer": "sgd", "learning_rate": 1e6} if name == "changes too much" else {}
        own = settings(fit, rounds=1)
        values = {"fit": dict(own.fit), "rounds": 1, "least_sites": 2}
        values["secure_aggregation"] = name in FAULTS
        cases.append({"settings": values, "sites": sites, "faults": faults, "folder": str(folder)})
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).with_name("secure_rounds.py")
    done = subprocess.run(
        [str(flower_environment() / "python"), str(script), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
    assert lines, done.stdout + done.stderr
    results = json.loads(lines[0].removeprefix("RESULTS "))
    return dict(zip([*FAULTS, *PLAIN], results, strict=True))


def final(path: Path | str) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in read_tensors(Path(path))[0].items()}


@pytest.fixture(scope="module")
def plain(settings: Any, sites: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tensors of a simulation without secure aggregation, of all sites and of two."""
    found = {}
    for names in (("east", "north", "south"), ("north", "south")):
        out = tmp_path_factory.mktemp("plain") / "out"
        simulate(settings(rounds=1, sites={name: sites[name] for name in names}), out)
        found[names] = final(out / STATE)
    return found


@pytest.mark.slow
def test_the_sum_is_that_of_a_training_without_it_but_for_rounding(found: Any, plain: Any) -> None:
    (record,) = found["none"]["rounds"]
    assert sorted(record["sites"]) == ["east", "north", "south"] and record["failed"] == {}
    expected = plain["east", "north", "south"]
    for name, values in final(found["none"]["state"]).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


@pytest.mark.slow
def test_what_a_site_sends_is_spread_over_all_values_of_the_masks(found: Any) -> None:
    for arrays in found["none"]["masked"].values():
        values = np.concatenate([np.ravel(each) for each in arrays])
        assert len(values) == 2 * 128 + 2
        assert np.mean(values > LEVELS) > 0.97  # unmasked values are all below
        assert 0.4 < np.mean(values > 2**31) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, reason",
    [
        ("dies at the start", "no reply within"),
        ("dies in training", "no reply within"),
        ("sends garbage", "does not answer 'share_keys'"),
        ("sends other shapes", "not those of the declared tensors"),
    ],
)
def test_a_site_that_fails_is_named_and_the_others_go_on(
    found: Any, plain: Any, case: str, reason: str
) -> None:
    (record,) = found[case]["rounds"]
    assert sorted(record["sites"]) == ["north", "south"]
    assert list(record["failed"]) == ["east"]
    assert reason in record["failed"]["east"]
    expected = plain["north", "south"]
    for name, values in final(found[case]["state"]).items():
        np.testing.assert_allclose(values, expected[name], atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case, reason",
    [
        ("plain: dies", "no reply within"),
        ("plain: nonsense", "its answer cannot be read"),
        ("plain: empty", "its answer cannot be read"),
    ],
)
def test_what_is_no_answer_does_not_end_a_round_without_it_either(
    found: Any, plain: Any, case: str, reason: str
) -> None:
    (record,) = found[case]["rounds"]
    assert sorted(record["sites"]) == ["north", "south"] and reason in record["failed"]["east"]
    expected = plain["north", "south"]
    for name, values in final(found[case]["state"]).items():
        np.testing.assert_array_equal(values, expected[name])
    assert ("east" in found[case]["metrics"]) == (case != "plain: empty")
    assert ("east" in found[case]["failed"]) == (case == "plain: empty")


@pytest.mark.slow
def test_a_site_whose_name_is_a_path_does_not_take_part(found: Any) -> None:
    (record,) = found["plain: renamed"]["rounds"]
    assert sorted(record["sites"]) == ["north", "south"]
    assert "is no name of a site" in found["plain: renamed"]["failed"]["node 1"]


@pytest.mark.slow
def test_a_sum_that_cannot_be_unmasked_ends_the_round_in_one_line(found: Any) -> None:
    assert "too few sites are left to unmask their sum (east: no reply" in found["two die"]["error"]
    assert "cannot be unmasked" in found["sends wrong shares"]["error"]
    assert "changed by" in found["changes too much"]["error"]
    assert not any("\n" in case.get("error", "") for case in found.values())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": "median"}, "'median' needs the values of each site"),
        ({"least_sites": 1}, "least_sites=1, and the mean over one site is what it sends"),
        ({"secure_aggregation": "yes"}, "neither true nor false"),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(
    settings: Any, changes: Any, message: str
) -> None:
    with pytest.raises(VisiongraftError, match=message):
        settings(**{"secure_aggregation": True, "least_sites": 2, **changes})


def test_a_simulation_has_no_server_to_hide_from(settings: Any, tmp_path: Path) -> None:
    config = settings(secure_aggregation=True, least_sites=2)
    with pytest.raises(VisiongraftError, match="write a Flower app"):
        simulate(config, tmp_path / "out")
    assert (
        "secure_aggregation"
        in (write_app(config, tmp_path / "app") / "visiongraft_sites/apps.py").read_text()
    )
