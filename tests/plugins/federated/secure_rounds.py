"""Runs federated training with secure aggregation in the environment that has Flower, and prints what came out.

    python secure_rounds.py SETTINGS.json

Flower's workflow and its clients' side are the real ones; messages pass from one to the other in this process, as bytes, and
a site may have a fault in one of the four stages of a round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.supercore.task_identity import TaskIdentity

from visiongraft.errors import VisiongraftError
from visiongraft.plugins.federated.config import FederatedConfig
from visiongraft.plugins.federated.flower import FlowerSites, make_client_app
from visiongraft.plugins.federated.server import STATE, run_rounds

CONFIGS = "secaggplus_configs"


class Loopback:
    """Passes messages to the apps of sites, and notes the masked values that the server receives."""

    def __init__(self, config: FederatedConfig, sites: dict[str, str], folder: Path, faults: Any):
        self.faults, self.masked = faults, {}
        self.apps, self.contexts, self.names = {}, {}, {}
        for node, (site, data) in enumerate(sites.items(), 1):
            own = {"site": site, "data": data, "folder": str(folder / site)}
            self.apps[node], self.names[node] = make_client_app(config), site
            self.contexts[node] = Context(1, node, own, RecordDict(), {})

    def get_node_ids(self) -> Iterable[int]:
        return list(self.apps)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> list[Message]:
        found = [self._answer(message_from_proto(message_to_proto(each))) for each in messages]
        return [each for each in found if each is not None]

    def _answer(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        records = message.content.config_records
        kind = message.metadata.message_type
        stage = str(records[CONFIGS]["stage"]) if CONFIGS in records else kind
        fault = self.faults.get(self.names[node], {}).get(stage)
        if fault == "dies":
            return None
        try:
            answer = self.apps[node](message, self.contexts[node])
        except Exception as error:
            reason = f"{type(error)}:<'{error}'>"  # as Flower's process of a site says it
            return Message(Error(code=2, reason=reason), reply_to=message)
        if fault == "nonsense":
            answer.content.config_records["about"] = ConfigRecord({"answer": '{"metrics": 3}'})
        if fault == "renamed":
            values = json.loads(str(answer.content.config_records["about"]["answer"]))
            renamed = json.dumps({**values, "site": "../north"})
            answer.content.config_records["about"] = ConfigRecord({"answer": renamed})
        if fault == "empty":
            return Message(RecordDict(), reply_to=message)
        own = answer.content.config_records.get(CONFIGS)
        if own is not None and "masked_params" in own:
            kept = self.masked.setdefault(self.names[node], [])
            kept.extend(bytes_to_ndarray(each).tolist() for each in own["masked_params"][1:])
        if fault == "garbage":
            answer.content.config_records[CONFIGS] = ConfigRecord({"anything": 1})
        if fault == "shape":
            own["masked_params"] = [ndarray_to_bytes(np.arange(3))]
        if fault == "shares":
            own["shares"] = [bytes(reversed(each)) for each in own["shares"]]
        return answer


def main() -> None:
    """Run all cases of the file."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    results = []
    for number, case in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        config = FederatedConfig.of(case["settings"])
        folder = Path(case["folder"]) / str(number)
        grid: Any = Loopback(config, case["sites"], folder / "sites", case.get("faults", {}))
        context = Context(1, 0, {}, RecordDict(), {})
        try:
            found = run_rounds(config, folder, FlowerSites(config, grid, context))
            results.append({**found, "state": str(folder / STATE)})
        except VisiongraftError as error:
            results.append({"error": str(error)})
        results[-1]["masked"] = grid.masked
    print("RESULTS " + json.dumps(results))


if __name__ == "__main__":
    main()
