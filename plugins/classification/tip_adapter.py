"""Tip-Adapter: few labeled images beside a classifier of texts, without training (Zhang et al., 2022).

"Tip-Adapter: Training-free adaption of CLIP for few-shot classification": the embeddings of labeled images
are kept in the head, and an image's similarity to each adds to the logit of its class.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from visiongraft.adaptation.networks import merged_network
from visiongraft.backbone import Features
from visiongraft.errors import OptionError
from visiongraft.network import Network
from visiongraft.options import is_number
from visiongraft.plugins.classification.head import ClassificationHead
from visiongraft.task_contract.group_rules import RULES
from visiongraft.text.labeled import embed_labeled

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

ALPHAS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
BETAS = (1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0, 40.0)
FACT = "Tip-Adapter"


def tip_adapter(
    model: TransferModel,
    data: Any,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> TransferModel:
    """Add labeled images to a classifier of texts, without training (Tip-Adapter).

    Args:
        model: A model whose head compares embeddings of length 1, such as ``zero_shot`` makes.
        data: Labeled images of its classes, in any form that ``fit`` takes; the training images are used.
        alpha: Weight of the images beside the texts.
        beta: How fast an image's influence falls with its distance. Those that are not given are chosen:
            the values with the least cross-entropy of each image with all others.
        validation: Fraction of ``data`` to hold out if it has no validation split.
        seed: Seed of that split.

    Returns:
        A new model; training it further also trains the embeddings (Tip-Adapter-F).

    Raises:
        DataError: The data cannot be read, or have another class.
        OptionError: The model's head is another one, or a number is invalid.
    """
    task: Any = model.task
    network = deepcopy(merged_network(model.network)).cpu().eval()
    before = network.head
    if not (isinstance(before, ClassificationHead) and task.normalize and not task.hidden):
        raise OptionError("Tip-Adapter needs a head that compares texts, as zero_shot makes them")
    if task.cached or task.multi_label:
        what = "has images already" if task.cached else "predicts several classes of an image"
        raise OptionError(
            f"Tip-Adapter needs one class of each image and no images before; this model {what}"
        )
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is not None and not (is_number(value) and value >= 0):
            raise OptionError(f"{name}={value!r} is not a number of at least 0")
    images = embed_labeled(task, network.backbone, data, validation, seed)
    with torch.no_grad():
        pooled = torch.from_numpy(images.features).float()
        keys, logits = before.embed(pooled), before(Features((), pooled))
        labels = one_hot(torch.from_numpy(images.labels), len(task.class_names)).float()
        made = Network(network.backbone, replace(task, cached=len(keys)))
        made.load_state_dict(network.state_dict(), strict=False)
        head = made.head
        assert isinstance(head, ClassificationHead) and head.cache is not None
        head.cache.keys.copy_(keys)
        head.cache.labels.copy_(labels.T)
        found = _choose(keys, labels, logits, alpha, beta)
        head.cache.alpha.fill_(found["alpha"])
        head.cache.beta.fill_(found["beta"])
    facts = {
        **{n: v for n, v in model.facts.items() if n != RULES},
        FACT: {**found, "images": len(keys)},
    }
    known = model.training_images
    joined = images.digests if known is None else known.joined(images.digests)
    return type(model)(made.eval(), facts, images.validation, training_images=joined)


def _choose(
    keys: Tensor, labels: Tensor, logits: Tensor, alpha: float | None, beta: float | None
) -> dict[str, float]:
    """Choose alpha and beta by what each image is predicted by all others."""
    targets = labels.argmax(dim=1)
    distances = 1 - keys @ keys.T
    distances.fill_diagonal_(torch.inf)  # no image votes for itself
    results = {}
    for b in BETAS if beta is None else (beta,):
        votes = (-max(b, 1e-12) * distances).exp() @ labels
        for a in ALPHAS if alpha is None else (alpha,):
            results[a, b] = float(cross_entropy(logits + a * votes, targets))
    best = min(results, key=lambda pair: results[pair])
    return {"alpha": float(best[0]), "beta": float(best[1])}
