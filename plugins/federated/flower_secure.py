"""Rounds in which the server sees no single update, only their mean: Flower's SecAgg+.

Bell et al., 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead". Sites mask what they send, and the
masks cancel in the sum; secret shares of the masks let the others take out those of a site that dies meanwhile. Flower's
workflow was written for its older interface of strategies, which the server takes part in here for one round at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.client.mod import secaggplus_mod
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Status,
    bytes_to_ndarray,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as Workflow
from flwr.serverapp import Grid
from numpy.typing import NDArray

from visiongraft.errors import one_line
from visiongraft.plugins.federated.config import FederatedError
from visiongraft.plugins.federated.exchange import Declared, decode, encode
from visiongraft.plugins.federated.server import Reply
from visiongraft.plugins.federated.site import Site

RANGE = 8.0  # a value that changes by more cannot be sent; Flower's default
LEVELS = 2**22  # to which changes within it are rounded at random; Flower's default
SHARES = 2 / 3  # of the sites, which can unmask together; fewer learn nothing
ANSWER = "answer"
KEPT = "the state is kept, so that it can be resumed"
KEYS: Mapping[str, tuple[str, ...]] = {  # what sites answer in each stage
    Stage.SETUP: (Key.PUBLIC_KEY_1, Key.PUBLIC_KEY_2),
    Stage.SHARE_KEYS: (Key.DESTINATION_LIST, Key.CIPHERTEXT_LIST),
    Stage.COLLECT_MASKED_VECTORS: (Key.MASKED_PARAMETERS,),
    Stage.UNMASK: (Key.NODE_ID_LIST, Key.SHARE_LIST),
}
RAISED = re.compile(r"<class '[^']*'>:<'(.*)'>", re.DOTALL)  # how Flower reports an exception

MASKS = [secaggplus_mod]  # of the client app's training


def train_masked(message: Message, site_of: Callable[[], Site]) -> Message:
    """Train at a site, and answer with the changes, which Flower masks before they are sent.

    Args:
        message: The third of Flower's four messages of a round.
        site_of: Returns the site.

    Raises:
        VisiongraftError: The site cannot train, or a value changed by more than can be sent.
    """
    given = compat.recorddict_to_fitins(message.content, keep_input=True)
    site = site_of()
    names = sorted(site.declared.shapes)
    payload = dict(zip(names, given.parameters.tensors, strict=True))
    done = site.train(payload, json.loads(str(given.config[ANSWER]))["round"])
    before, after = decode(payload, site.declared), decode(done.payload, site.declared)
    changes = [after[name].astype(np.float64) - before[name] for name in names]
    for name, change in zip(names, changes, strict=True):
        if (largest := float(np.abs(change).max(initial=0))) > RANGE:
            raise FederatedError(
                f"{name!r} changed by {largest:g}, and secure aggregation sends changes of {RANGE:g} at most; "
                "lower the learning rate"
            )
    about = {n: v for n, v in asdict(done).items() if n != "payload"}
    status = Status(Code.OK, "")
    answer = FitRes(
        status, ndarrays_to_parameters(changes), done.images, {ANSWER: json.dumps(about)}
    )
    return Message(compat.fitres_to_recorddict(answer, keep_input=False), reply_to=message)


def secure_round(
    grid: Grid,
    context: Context,
    nodes: Mapping[str, int],
    images: Mapping[str, int],
    declared: Declared,
    payload: Mapping[str, bytes],
    number: int,
    timeout: float,
) -> tuple[dict[str, Reply], dict[str, str]]:
    """Let sites train, and learn the mean of what they would send.

    Args:
        grid: Flower's connection to the nodes.
        context: That of the server's app.
        nodes: Node of each site that trains.
        images: Number of training images of each site.
        declared: What travels.
        payload: The global values.
        number: Number of the round, from 0.
        timeout: Seconds to wait for the answers in each of the four stages.

    Returns:
        A reply of each site whose update is in the mean, all with this mean as their values; and what the others
        failed with.

    Raises:
        FederatedError: The mean cannot be unmasked.
    """
    failed: dict[str, str] = {}
    while True:
        left = {site: node for site, node in nodes.items() if site not in failed}
        if len(left) < 2:
            return {}, failed
        attempt = _Round(grid, left, declared, payload, number)
        try:
            _run(attempt, context, max(images[site] for site in left), number, timeout)
            break
        except _Gone:  # before they shared keys, so that their masks could not be taken out
            failed |= attempt.failed
        except Exception as error:  # of Flower's cryptography, which reads what sites send
            raise FederatedError(
                f"round {number + 1}: the sum cannot be unmasked ({one_line(error)}): a site has sent other shares or masks than "
                f"it should, and cannot be named; {KEPT}"
            ) from error
    if attempt.mean is None:
        reasons = "; ".join(f"{site}: {why}" for site, why in sorted(attempt.failed.items()))
        raise FederatedError(
            f"round {number + 1}: too few sites are left to unmask their sum ({reasons or 'no site failed'}); {KEPT}"
        )
    mean = _checked_mean(attempt.mean, declared, number)
    before = decode(payload, declared)
    values = {name: (before[name] + mean[name]).astype(np.float32) for name in sorted(mean)}
    encoded = encode(values)
    return {
        site: Reply(encoded, *_about(about), sent=attempt.sent[site])
        for site, about in attempt.about.items()
    }, failed | attempt.failed


class _Gone(Exception):
    """Sites failed before they shared keys."""


@dataclass
class _Round:
    """One round of Flower's workflow: its strategy, and its connection to the nodes, which names those that fail.

    Attributes:
        grid: Flower's connection.
        nodes: Node of each site.
        declared: What travels.
        payload: The global values.
        number: Number of the round, from 0.
        failed: What sites failed with.
        about: What sites say about their training.
        sent: Bytes of the masked values of each site.
        mean: The weighted mean of the changes; ``None`` if it could not be unmasked.
    """

    grid: Grid
    nodes: Mapping[str, int]
    declared: Declared
    payload: Mapping[str, bytes]
    number: int
    failed: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    mean: list[NDArray[np.float64]] | None = None

    def configure_fit(self, *_: Any) -> list[tuple[Any, FitIns]]:
        """Return what each node is to train."""
        tensors = Parameters([self.payload[name] for name in sorted(self.payload)], "numpy.ndarray")
        settings = {ANSWER: json.dumps({"round": self.number})}
        return [
            (SimpleNamespace(node_id=n), FitIns(tensors, settings)) for n in self.nodes.values()
        ]

    def aggregate_fit(self, _: int, results: list[Any], __: Any) -> tuple[None, dict[str, Any]]:
        """Take the mean, which Flower puts in place of each result."""
        self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> list[Message]:
        """Send messages, and return the answers without those that are none."""
        asked = list(messages)
        stage = str(asked[0].content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])
        labels = {node: site for site, node in self.nodes.items()}
        waiting = {labels[each.metadata.dst_node_id] for each in asked}
        answers = []
        for answer in self.grid.send_and_receive(asked, timeout=timeout):
            site = labels.get(answer.metadata.src_node_id)
            if site not in waiting:
                continue
            waiting.remove(site)
            try:
                self._read(site, stage, answer)
                answers.append(answer)
            except Exception as error:  # whatever is wrong with what a site sends
                self.failed[site] = one_line(error) or type(error).__name__
        for site in sorted(waiting):
            self.failed[site] = f"no reply within {timeout:g} s"
        if self.failed and stage in (Stage.SETUP, Stage.SHARE_KEYS):
            raise _Gone
        return answers

    def _read(self, site: str, stage: str, answer: Message) -> None:
        """Note what a site answers; raises if it is not what the stage asks for."""
        if answer.has_error():
            reason = answer.error.reason or f"error {answer.error.code}"
            found = RAISED.fullmatch(reason)
            raise FederatedError(one_line(found[1] if found else reason))
        content = answer.content
        values = content.config_records.get(RECORD_KEY_CONFIGS, {})
        if any(key not in values for key in KEYS[stage]):
            raise FederatedError(f"it does not answer {stage!r} of secure aggregation")
        lengths = {len(values[key]) for key in KEYS[stage] if isinstance(values[key], list)}
        if len(lengths) > 1:
            raise FederatedError(f"its answer to {stage!r} of secure aggregation cannot be read")
        if stage == Stage.COLLECT_MASKED_VECTORS:
            masked = values[Key.MASKED_PARAMETERS]
            assert isinstance(masked, list)
            self._check_masked([bytes_to_ndarray(each) for each in masked])
            about = compat.recorddict_to_fitres(content, keep_input=True).metrics[ANSWER]
            self.about[site] = json.loads(str(about))
            _about(self.about[site])
            self.sent[site] = sum(map(len, masked))

    def _check_masked(self, arrays: list[NDArray[Any]]) -> None:
        shapes = [(1,), *(self.declared.shapes[name] for name in sorted(self.declared.shapes))]
        if [a.shape for a in arrays] != shapes or any(a.dtype.kind not in "iu" for a in arrays):
            raise FederatedError("its masked values are not those of the declared tensors")


def _run(attempt: _Round, context: Context, most: int, number: int, timeout: float) -> None:
    """Run the four stages of Flower's workflow."""
    own = LegacyContext(context, strategy=attempt)
    own.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Workflow.CURRENT_ROUND: number})
    own.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
    workflow = SecAggPlusWorkflow(
        1.0,
        SHARES,
        max_weight=float(most),
        clipping_range=RANGE,
        quantization_range=LEVELS,
        timeout=timeout,
    )
    workflow(attempt, own)


def _about(values: Mapping[str, Any]) -> tuple[int, dict[str, float], str]:
    """Read what a site says about its training."""
    metrics = {str(name): float(value) for name, value in values["metrics"].items()}
    return values["images"], metrics, values["frozen"]


def _checked_mean(
    mean: list[NDArray[np.float64]], declared: Declared, number: int
) -> dict[str, NDArray[np.float64]]:
    """Refuse a mean that no honest sites have: with wrong shares, or masks of another key, it is noise."""
    found = dict(zip(sorted(declared.shapes), mean, strict=True))
    for name, values in found.items():
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > RANGE * 1.01:
            raise FederatedError(
                f"round {number + 1}: the unmasked mean of {name!r} is noise, so that a site has sent other shares or masks "
                f"than it should, and cannot be named; {KEPT}"
            )
    return found
