"""Server and sites as Flower apps: the same rounds as in a simulation, over gRPC.

Flower's requirements contradict those of visiongraft's command line (typer, rich), so that nothing else of
visiongraft imports this module: the apps run in an environment of their own, see ``docs/federated.md``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from visiongraft.errors import OptionError, VisiongraftError, one_line
from visiongraft.plugins.federated.config import (
    FederatedConfig,
    FederatedError,
    check_license,
    check_site_name,
)
from visiongraft.plugins.federated.exchange import Declared
from visiongraft.plugins.federated.flower_secure import MASKS, secure_round, train_masked
from visiongraft.plugins.federated.server import Hello, Reply, run_rounds
from visiongraft.plugins.federated.site import Site

TENSORS, ABOUT = "tensors", "about"
WAIT = 0.5  # seconds between two looks for sites
ANSWER = "answer"
Payload = Mapping[str, bytes]


def make_server_app(config: FederatedConfig) -> ServerApp:
    """Make the server; its run settings are ``out``, a folder, and ``resume``.

    Args:
        config: The settings.
    """
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        out = Path(str(context.run_config.get("out", "federated")))
        out.mkdir(parents=True, exist_ok=True)
        sites = FlowerSites(config, grid, context)
        try:
            sites.wait()
            run_rounds(config, out, sites, bool(context.run_config.get("resume", False)))
        except VisiongraftError as error:  # Flower does not report why an app failed
            (out / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            raise

    app.main()(main)
    return app


def make_client_app(config: FederatedConfig) -> ClientApp:
    """Make the app of the sites.

    The settings of each node are ``site``, ``data`` and ``folder``, and ``license`` if its images have another than those
    of all sites.

    Args:
        config: The settings.
    """
    app = ClientApp()
    made: dict[str, Site] = {}

    def site_of(context: Context) -> Site:
        node = context.node_config
        missing = [name for name in ("site", "data", "folder") if name not in node]
        if missing:
            raise OptionError(
                f"the node lacks the setting {missing[0]!r}: start flower-supernode with --node-config "
                '\'site="NAME" data="PATH" folder="PATH"\''
            )
        name = str(node["site"])
        if name not in made:
            license = str(node["license"]) if "license" in node else None
            folder = Path(str(node["folder"]))
            made[name] = Site(name, str(node["data"]), config, folder, license)
        return made[name]

    def hello(message: Message, context: Context) -> Message:
        def act() -> RecordDict:
            site = site_of(context)
            about = {
                "declared": site.declared.to_json(),
                "images": len(site.run.training),
                "license": site.license,
                "site": site.name,
            }
            return _records(about, site.values())

        return _answer(message, context, act)

    def train(message: Message, context: Context) -> Message:
        def act() -> RecordDict:
            about, payload = _read(message.content)
            done = site_of(context).train(payload, about["round"])
            values = {n: v for n, v in asdict(done).items() if n != "payload"}
            return _records(values, done.payload)

        return _answer(message, context, act)

    def finish(message: Message, context: Context) -> Message:
        def act() -> RecordDict:
            about, payload = _read(message.content)
            metrics = site_of(context).finish(payload, about["licenses"])
            return _records({"metrics": metrics}, {})

        return _answer(message, context, act)

    def masked(message: Message, context: Context) -> Message:
        return train_masked(message, lambda: site_of(context))

    app.query()(hello)
    if config.secure_aggregation:
        app.train(mods=MASKS)(masked)
    else:
        app.train()(train)
    app.evaluate()(finish)
    return app


@dataclass
class FlowerSites:
    """The sites that a Flower server reaches.

    Attributes:
        config: The settings.
        grid: Flower's connection to the nodes.
        context: That of the server's app.
        nodes: Node of each site, known after ``hello``.
        hellos: What each site said.
    """

    config: FederatedConfig
    grid: Grid
    context: Context
    nodes: dict[str, int] = field(default_factory=dict)
    hellos: dict[str, Hello] = field(default_factory=dict)

    def wait(self) -> None:
        """Wait until as many nodes as the training needs are there.

        Raises:
            FederatedError: They did not come in time.
        """
        end = time.monotonic() + self.config.timeout
        while (count := len(list(self.grid.get_node_ids()))) < self.config.least_sites:
            if time.monotonic() > end:
                raise FederatedError(
                    f"{count} nodes are connected after {self.config.timeout:g} s, and least_sites is "
                    f"{self.config.least_sites}; start flower-supernode at the sites"
                )
            time.sleep(WAIT)

    def hello(self) -> tuple[dict[str, Hello], dict[str, str]]:
        """Ask all nodes what they declare."""
        nodes = {f"node {node}": node for node in self.grid.get_node_ids()}
        answers, failed = self._ask(nodes, "query", {}, {})
        hellos = {}
        for label, (about, payload) in sorted(answers.items()):
            try:
                name = str(about["site"])
                check_site_name(name)
                check_license(name, about["license"])
                declared, images = Declared.of(about["declared"]), int(about["images"])
                hello = Hello(declared, images, payload, about["license"])
            except (KeyError, TypeError, ValueError, AttributeError, VisiongraftError) as error:
                failed[label] = f"its answer cannot be read ({one_line(error)})"
                continue
            if name in hellos:
                failed[label] = f"another node is called {name!r}, too"
            else:
                hellos[name], self.nodes[name] = hello, nodes[label]
        self.hellos = hellos
        return hellos, failed

    def train(
        self, sites: Sequence[str], payload: Payload, number: int
    ) -> tuple[dict[str, Reply], dict[str, str]]:
        """Let sites train, and wait for them no longer than the timeout."""
        if self.config.secure_aggregation:
            images = {site: self.hellos[site].images for site in sites}
            declared = self.hellos[sites[0]].declared
            nodes, timeout = self._of(sites), self.config.timeout
            return secure_round(
                self.grid, self.context, nodes, images, declared, payload, number, timeout
            )
        answers, failed = self._ask(self._of(sites), "train", {"round": number}, payload)
        replies = {}
        for site, (about, tensors) in answers.items():
            try:
                replies[site] = Reply(tensors, about["images"], _metrics(about), about["frozen"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                failed[site] = f"its answer cannot be read ({one_line(error)})"
        return replies, failed

    def finish(
        self, sites: Sequence[str], payload: Payload, licenses: Mapping[str, str]
    ) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """Let sites measure and save the final model."""
        about = {"licenses": dict(licenses)}
        answers, failed = self._ask(self._of(sites), "evaluate", about, payload)
        metrics = {}
        for site, (about, _) in answers.items():
            try:
                found = _metrics(about)
                if not found["images"] >= 1:
                    raise ValueError(f"it claims to have {found['images']:g} validation images")
                metrics[site] = found
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                failed[site] = f"its answer cannot be read ({one_line(error)})"
        return metrics, failed

    def _of(self, sites: Iterable[str]) -> dict[str, int]:
        return {site: self.nodes[site] for site in sites}

    def _ask(
        self, nodes: Mapping[str, int], kind: str, about: Mapping[str, Any], payload: Payload
    ) -> tuple[dict[str, tuple[dict[str, Any], dict[str, bytes]]], dict[str, str]]:
        """Send one message to each node, and return what they answered and what failed, by label."""
        messages = [
            Message(_records(about, payload), node, kind, group_id=str(about.get("round", kind)))
            for node in nodes.values()
        ]
        labels = {node: label for label, node in nodes.items()}
        done, failed = {}, {}
        for reply in self.grid.send_and_receive(messages, timeout=self.config.timeout):
            label = labels.get(reply.metadata.src_node_id)
            if label is None:
                continue
            if reply.has_error():
                failed[label] = one_line(reply.error.reason or f"error {reply.error.code}")
                continue
            try:
                found, tensors = _read(reply.content)
            except (KeyError, ValueError, TypeError) as error:
                failed[label] = f"its answer cannot be read ({one_line(error)})"
                continue
            if "error" in found:
                failed[label] = one_line(found["error"])
            else:
                done[label] = (found, tensors)
        for label in nodes:
            if label not in done and label not in failed:
                failed[label] = f"no reply within {self.config.timeout:g} s"
        return done, failed


def _metrics(about: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in about["metrics"].items()}


def _answer(message: Message, context: Context, act: Callable[[], RecordDict]) -> Message:
    """Act, and answer with the result or with the line that says what failed."""
    try:
        return Message(act(), reply_to=message)
    except VisiongraftError as error:
        name = context.node_config.get("site", "")
        return Message(_records({"error": str(error), "site": name}, {}), reply_to=message)


def _records(about: Mapping[str, Any], payload: Payload) -> RecordDict:
    """Make the content of a message: JSON values, and tensors as the bytes that were declared."""
    arrays = {name: Array("float32", (), "numpy.ndarray", data) for name, data in payload.items()}
    values = ConfigRecord({ANSWER: json.dumps(dict(about))})
    return RecordDict({TENSORS: ArrayRecord(arrays), ABOUT: values})


def _read(content: RecordDict) -> tuple[dict[str, Any], dict[str, bytes]]:
    about = json.loads(str(content.config_records[ABOUT][ANSWER]))
    return about, {name: array.data for name, array in content.array_records[TENSORS].items()}
