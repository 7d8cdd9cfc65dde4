"""Model soups: averages of several fine-tuned models (Wortsman et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from visiongraft.averaging.members import Members, Model, averaged_model, headline, measured
from visiongraft.averaging.weights import weighted_mean
from visiongraft.errors import OptionError
from visiongraft.model import TransferModel
from visiongraft.options import checks_keywords
from visiongraft.task import Task
from visiongraft.training.measuring.evaluation_data import EvaluationData


@checks_keywords
def soup(
    models: Model | Sequence[Model],
    *,
    greedy: bool = False,
    epochs: Literal["all"] | Sequence[int] | None = None,
    data: Any = None,
    batch_size: int = 32,
    task: type[Task] | None = None,
) -> TransferModel:
    """Average the weights of models that were fine-tuned from the same weights (a model soup).

    "Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
    inference time" (Wortsman et al., 2022). The models differ in settings or seeds, and have architecture,
    classes and preprocessing in common.

    Args:
        models: Folders of runs or saved models, or models; at least two. With ``epochs``, run folders, of
            which one is enough.
        greedy: Instead of averaging all, start with the best one and add the others, from good to bad, as
            long as the headline metric does not fall.
        epochs: Numbers of epochs, from 1, whose weights are averaged in place of each run's best; ``"all"``
            for those that it kept, see the setting ``keep_epochs`` of ``fit``.
        data: Labeled data to measure on, with ``greedy`` to choose on, in any form that
            ``TransferModel.evaluate`` takes; the validation images of the first run if ``None`` and at hand.
        batch_size: Images per forward pass.
        task: The task's class, if it is not an installed plugin's.

    Returns:
        The average; its facts name the models, and the metrics if there were images to measure on.

    Raises:
        OptionError: Models differ in what averaging keeps, ``greedy`` has no images to choose on, or a run
            did not keep an epoch.

    Examples:
        ``visiongraft.soup(["runs/a", "runs/b", "runs/c"], greedy=True, data="flowers/val").save("soup")``
        ``visiongraft.soup("runs/a", epochs="all")``
    """
    given = (
        list(models) if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    )
    if epochs is None:
        if len(given) < 2:
            raise OptionError(
                "a soup takes at least two models: soup([MODEL, MODEL, ...]), or epochs of a run that kept some: "
                "soup(RUN, epochs='all')"
            )
        members = Members.of(given, task)
    else:
        members = Members.of_epochs(given, epochs, task)
    measuring = members.evaluation(data)
    if not greedy:
        return _uniform(members, measuring, batch_size)
    if measuring is None:
        raise OptionError("a greedy soup chooses by a metric: pass data=PATH, labeled images")
    return _greedy(members, measuring, batch_size)


def _uniform(members: Members, data: EvaluationData | None, batch_size: int) -> TransferModel:
    network = members.network()
    count = len(members.models)
    network.load_state_dict(weighted_mean(members.states, [1 / count] * count), strict=False)
    results = None if data is None else measured(network, data, batch_size)
    facts = {"method": "uniform soup", "models": list(members.names)}
    return averaged_model(members, network, facts, data, results)


def _greedy(members: Members, data: EvaluationData, batch_size: int) -> TransferModel:
    network, states = members.network(), members.states
    task = network.task
    alone = []
    for state in states:
        network.load_state_dict(state, strict=False)
        alone.append(measured(network, data, batch_size))
    order = sorted(range(len(states)), key=lambda i: headline(task, alone[i]), reverse=True)
    chosen, best = order[:1], alone[order[0]]
    for candidate in order[1:]:
        tried = [states[i] for i in (*chosen, candidate)]
        network.load_state_dict(weighted_mean(tried, [1 / len(tried)] * len(tried)), strict=False)
        results = measured(network, data, batch_size)
        if headline(task, results) >= headline(task, best):  # as in the paper: equal is enough
            chosen, best = [*chosen, candidate], results
    kept = [states[i] for i in chosen]
    network.load_state_dict(weighted_mean(kept, [1 / len(kept)] * len(kept)), strict=False)
    facts = {
        "method": "greedy soup",
        "models": [members.names[i] for i in chosen],
        "left out": [members.names[i] for i in order if i not in chosen],
        f"{task.headline} of each": {members.names[i]: alone[i][task.headline] for i in order},
    }
    return averaged_model(members, network, facts, data, best)
