"""Prompt learning: vectors in place of the words before each class, learned from few images (CoOp).

"Learning to Prompt for Vision-Language Models" (Zhou et al., 2022), with one context for all classes. The
embeddings of the images and the text encoder stay as they are. The vectors that the encoder computes with the
learned context are the classes of the new model, which needs no text encoder; the context is noted in its facts.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from visiongraft.adaptation.networks import merged_network
from visiongraft.errors import OptionError, ReceiptError, escape_unprintable
from visiongraft.options import check_integer, is_number
from visiongraft.plugins.classification.head import ClassificationHead
from visiongraft.seeds import seeded
from visiongraft.task_contract.group_rules import RULES
from visiongraft.text.labeled import embed_labeled
from visiongraft.text.learned import FACT, LearnedWords, prepare_prompts
from visiongraft.text.origin import TextOrigin, text_origin
from visiongraft.text.zero_shot import TEMPLATE_FACT, TEXTS
from visiongraft.text_encoders import TextPrompts
from visiongraft.training.freezing import digest

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

NEAREST = "nearest words"
INITIAL_STD = 0.02  # of random vectors, as in CoOp
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # as in CoOp


def learn_prompts(
    model: TransferModel,
    data: Any,
    *,
    context: int | None = None,
    epochs: int = 50,
    learning_rate: float = 0.002,
    batch_size: int = 32,
    text: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> TransferModel:
    """Learn vectors in place of the words before each class, from few labeled images (CoOp).

    Stochastic gradient descent with a cosine schedule, on the cross-entropy of the images. Nothing but the
    vectors is trained, which is checked afterwards.

    Args:
        model: A classifier that ``zero_shot`` made with a text encoder of transformers or open_clip.
        data: Labeled images of its classes, in any form that ``fit`` takes; the training images are used,
            without augmentation.
        context: Number of vectors, which begin at random; by default, they begin as the words before the
            class in the first template of the model, such as ``"a photo of a"``, or as those that were learned
            before.
        epochs: Number of passes over the images.
        learning_rate: Initial learning rate.
        batch_size: Images per step.
        text: The text encoder of the model, if its name does not tell where it is, as of a folder.
        validation: Fraction of ``data`` to hold out if it has no validation split.
        seed: Seed of that split, of random vectors and of the order of images.

    Returns:
        A new model with other vectors of the same classes.

    Raises:
        DataError: The data cannot be read, or have another class.
        OptionError: The model was made otherwise or was trained, its encoder has no context to learn, or
            a number is invalid.
        ReceiptError: Something changed the text encoder.
    """
    _check(context, epochs, learning_rate, batch_size)
    task: Any = model.task
    if task.cached or task.multi_label:
        what = "has images in its head" if task.cached else "predicts several classes of an image"
        raise OptionError(f"prompt learning needs one class of each image; this model {what}")
    origin = text_origin(model, text)
    prompts, initial = _prepared(origin, context)
    network = deepcopy(merged_network(model.network)).cpu().eval()
    head = network.head
    assert isinstance(head, ClassificationHead)
    images = embed_labeled(task, network.backbone, data, validation, seed)
    with torch.no_grad():
        embedded = head.embed(torch.from_numpy(images.features).float())
    frozen = _digests(prompts)
    with seeded(seed, FACT):
        if initial is None:
            initial = torch.randn_like(prompts.initial) * INITIAL_STD
        classifier = _Classifier(prompts, initial, origin)
        losses = _train(
            classifier, embedded, torch.from_numpy(images.labels), epochs, learning_rate, batch_size
        )
    if _digests(prompts) != frozen:
        raise ReceiptError("the text encoder changed while prompts were learned")
    with torch.no_grad():
        head.output.weight.copy_(classifier.weight())
        learned = LearnedWords(
            classifier.context.detach().numpy(),
            origin.facts[TEMPLATE_FACT][0],
            _at_random(origin, context),
        )
        nearest = [escape_unprintable(word) for word in prompts.nearest_words(classifier.context)]
    noted = {
        **learned.facts(),
        NEAREST: nearest,
        "images": len(embedded),
        "epochs": epochs,
        "learning rate": learning_rate,
        "batch size": batch_size,
        "seed": seed,
        "cross-entropy before": losses[0],
        "cross-entropy after": losses[1],
        "frozen tensors of the text encoder": len(frozen),
    }
    known = model.training_images
    joined = images.digests if known is None else known.joined(images.digests)
    facts = {**{n: v for n, v in model.facts.items() if n != RULES}, FACT: noted}
    return type(model)(network, facts, images.validation, training_images=joined)


class _Classifier(nn.Module):
    """The classes as the text encoder describes them with the learned context.

    Args:
        prompts: Texts of the classes.
        context: What the context begins as, (M, width).
        origin: How images and texts are compared.
    """

    biases: Tensor
    center: Tensor

    def __init__(self, prompts: TextPrompts, context: Tensor, origin: TextOrigin) -> None:
        super().__init__()
        self.prompts, self.scale = prompts, origin.scale
        self.context = nn.Parameter(context.clone())
        self.register_buffer("biases", torch.from_numpy(origin.biases).float())
        self.register_buffer("center", torch.from_numpy(origin.center).float())

    def weight(self) -> Tensor:
        """Compute the weight of the last layer, (C, dim)."""
        vectors = normalize(self.prompts(self.context), dim=1)
        return self.scale * normalize(vectors - self.center, dim=1)

    def forward(self, embedded: Tensor) -> Tensor:
        """Compute logits of embeddings of length 1."""
        return embedded @ self.weight().T + self.biases


def _prepared(origin: TextOrigin, context: int | None) -> tuple[TextPrompts, Tensor | None]:
    """Return the texts about the classes, and what the context begins as; ``None`` for random vectors."""
    before = None if context is not None else origin.learned
    count = len(before.vectors) if before is not None and before.at_random else context
    template = origin.facts[TEMPLATE_FACT][0]
    prompts = prepare_prompts(origin.encoder, origin.facts[TEXTS], template, count)
    if before is not None:
        return prompts, torch.from_numpy(before.vectors)
    return prompts, prompts.initial if context is None else None


def _at_random(origin: TextOrigin, context: int | None) -> bool:
    """Check whether the context began at random, also where it continues what was learned before."""
    return context is not None or (origin.learned is not None and origin.learned.at_random)


def _train(
    classifier: _Classifier,
    embedded: Tensor,
    labels: Tensor,
    epochs: int,
    learning_rate: float,
    batch_size: int,
) -> tuple[float, float]:
    """Train the context alone, and return the cross-entropy of all images before and after."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifier.to(device)
    embedded, labels = embedded.to(device), labels.to(device)
    optimizer = torch.optim.SGD(
        [classifier.context], learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    before = _loss(classifier, embedded, labels)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).to(device).split(batch_size):
            optimizer.zero_grad()
            cross_entropy(classifier(embedded[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    after = _loss(classifier, embedded, labels)
    classifier.cpu()
    if not math.isfinite(after):
        raise OptionError(
            f"learning_rate={learning_rate!r}: the cross-entropy is {after}; pass a smaller one"
        )
    return before, after


def _loss(classifier: _Classifier, embedded: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(cross_entropy(classifier(embedded), labels))


def _digests(prompts: TextPrompts) -> dict[str, str]:
    return {name: digest(tensor) for name, tensor in prompts.state_dict().items()}


def _check(context: object, epochs: object, learning_rate: object, batch_size: object) -> None:
    """Refuse invalid numbers."""
    if context is not None:
        check_integer("context", context, least=1)
    check_integer("epochs", epochs, least=1)
    check_integer("batch_size", batch_size, least=1)
    if not (is_number(learning_rate) and learning_rate > 0):
        raise OptionError(f"learning_rate={learning_rate!r} is not a number above 0")
