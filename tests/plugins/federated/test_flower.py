"""Real Flower: a superlink and supernodes as processes of their own, over gRPC on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import visiongraft
from tests.plugins.federated.flower_environment import flower_environment
from visiongraft.errors import OptionError
from visiongraft.plugins.federated.flower_app import write_app
from visiongraft.plugins.federated.server import STATE
from visiongraft.plugins.federated.simulation import simulate
from visiongraft.saving.tensor_files import read_tensors


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Deployment:
    """A superlink and supernodes, which end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.port = folder, flower_environment(), free_port()
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        (self.home / "config.toml").write_text(
            f'[superlink.here]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self.start(
            "flower-superlink",
            *("--insecure", "--host", "127.0.0.1", "--port", str(self.port)),
            "--disable-runtime-dependency-installation",
        )
        self.await_port()

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = open(self.folder / f"{program}-{len(self.processes)}.log", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            [str(self.bin / program), *arguments],
            stdout=log,
            stderr=log,
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def await_port(self) -> None:
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError(self.logs())

    def join(self, site: str, data: str, **more: str) -> subprocess.Popen[bytes]:
        values = {"site": site, "data": data, "folder": str(self.folder / "sites" / site), **more}
        node = " ".join(f'{name}="{value}"' for name, value in values.items())
        return self.start(
            "flower-supernode",
            *("--insecure", "--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port())),
            *("--node-config", node),
        )

    def run(self, app: Path, out: Path, **settings: Any) -> None:
        texts = {"out": str(out), **settings}
        values = " ".join(f"{name}={json.dumps(value)}" for name, value in texts.items())
        command = [
            str(self.bin / "flwr"),
            "run",
            str(app),
            "here",
            "--stream",
            "--run-config",
            values,
        ]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            timeout=1500,
            check=False,  # it is 0 even if an app failed
        )
        (self.folder / "run.log").write_bytes(done.stdout + done.stderr)

    def logs(self) -> str:
        return "\n".join(p.read_text(errors="replace")[-3000:] for p in self.folder.glob("*.log"))

    def close(self) -> None:
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path / "flower")
    yield made
    made.close()


@pytest.mark.slow
def test_processes_over_grpc_end_with_the_tensors_of_the_simulation(
    deployment: Deployment, settings: Any, sites: Any, tmp_path: Path
) -> None:
    two = {name: sites[name] for name in ("east", "south")}
    config = settings(rounds=1, sites=two, least_sites=2, timeout=240)
    app = write_app(config, tmp_path / "app")
    for site, data in two.items():
        deployment.join(site, data)
    deployment.run(app, tmp_path / "real")
    assert (tmp_path / "real" / "result.json").is_file(), deployment.logs()
    real = json.loads((tmp_path / "real" / "result.json").read_text())
    same = simulate(config, tmp_path / "simulated")
    tensors, others = (read_tensors(tmp_path / f / STATE)[0] for f in ("real", "simulated"))
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert real["bytes"] == same["bytes"] and real["mean"] == same["mean"]
    model = visiongraft.load(deployment.folder / "sites" / "east" / "model")
    weight = tensors["values:head.output.weight"]
    assert torch.equal(model.network.head.output.weight.cpu(), weight)
    of_server = visiongraft.load(tmp_path / "real")
    assert torch.equal(of_server.network.head.output.weight.cpu(), weight)


@pytest.mark.exhaustive
def test_secure_aggregation_over_grpc_finds_the_mean_and_models_state_all_licenses(
    deployment: Deployment, settings: Any, sites: Any, tmp_path: Path
) -> None:
    two = {name: sites[name] for name in ("east", "south")}
    config = settings(rounds=1, least_sites=2, secure_aggregation=True, timeout=900)
    app = write_app(config, tmp_path / "app")
    for site, data in two.items():
        deployment.join(site, data, license="CC-BY-4.0" if site == "east" else "MIT")
    deployment.run(app, tmp_path / "real")
    assert (tmp_path / "real" / "result.json").is_file(), deployment.logs()
    result = json.loads((tmp_path / "real" / "result.json").read_text())
    assert list(result["rounds"][0]["sites"]) == ["east", "south"]
    assert result["licenses"] == {"east": "CC-BY-4.0", "south": "MIT"}
    simulate(settings(rounds=1, sites=two), tmp_path / "simulated")
    tensors, others = (read_tensors(tmp_path / f / STATE)[0] for f in ("real", "simulated"))
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, others[name], atol=2e-5, rtol=0)
    for model in (deployment.folder / "sites" / "south" / "model", tmp_path / "real" / "model"):
        assert "| site east: training images | CC-BY-4.0 |" in (model / "README.md").read_text()


@pytest.mark.exhaustive
def test_a_site_that_cannot_train_is_named_and_does_not_end_the_round(
    deployment: Deployment, settings: Any, sites: Any, tmp_path: Path
) -> None:
    config = settings(rounds=1, least_sites=1, timeout=240)
    app = write_app(config, tmp_path / "app")
    deployment.join("east", sites["east"])
    deployment.join("lost", str(tmp_path / "nothing"))
    time.sleep(20)  # both are known before the run
    deployment.run(app, tmp_path / "real")
    result = json.loads((tmp_path / "real" / "result.json").read_text())
    assert list(result["metrics"]) == ["east"]
    assert any("nothing" in reason for reason in result["failed"].values())


def test_an_app_contains_the_settings_but_no_paths_of_sites(
    settings: Any, sites: Any, tmp_path: Path
) -> None:
    app = write_app(settings(), tmp_path / "app")
    text = (app / "visiongraft_sites" / "apps.py").read_text()
    assert "linear_probe" in text and sites["east"] not in text
    compile(text, "apps.py", "exec")
    with pytest.raises(OptionError, match="is not empty"):
        write_app(settings(), app)
