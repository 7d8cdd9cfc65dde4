"""Recognize the segmentation networks that torchvision publishes, and name their tensors as this task does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from visiongraft.errors import WeightsError
from visiongraft.plugins.dense.residual import residual_name
from visiongraft.task_contract.published import Published

BODY, CLASSIFIER, AUXILIARY = "backbone.", "classifier.", "aux_classifier."
SIZE = (520, 520)  # torchvision resizes to 520 pixels on the shorter side
LAST = "classifier.4.weight"  # of both decoders
BACKGROUND = "background"


def read_published(tensors: Mapping[str, Tensor], class_names: Sequence[str]) -> Published | None:
    """Recognize a checkpoint of torchvision's segmentation networks; see ``Task.read_published``.

    Args:
        tensors: Tensors by name.
        class_names: The classes that the user names, if any.
    """
    if f"{CLASSIFIER}low_classifier.weight" in tensors:
        raise WeightsError(
            "this is lraspp_mobilenet_v3_large of torchvision, for which there is no decoder"
        )
    if LAST not in tensors or not any(n.startswith(BODY) for n in tensors):
        return None
    decoder = "deeplabv3" if f"{CLASSIFIER}0.project.0.weight" in tensors else "fcn"
    body = {n.removeprefix(BODY): t for n, t in tensors.items() if n.startswith(BODY)}
    network = residual_name(body)
    if network is None:
        raise WeightsError(
            f"this is a {decoder} of torchvision on a network that is not a ResNet, which it pools at another "
            "stride than the decoder here; those on resnet50 and resnet101 can be loaded"
        )
    return Published(
        f"{decoder}_{network} of torchvision",
        f"torchvision/{network}_dilated",
        {
            "decoder": decoder,
            "kind": "multi_class",
            "class_names": _class_names(len(tensors[LAST]), class_names),
        },
        body,
        {
            f"decoder.head.{n.removeprefix(CLASSIFIER)}": t
            for n, t in tensors.items()
            if n.startswith(CLASSIFIER)
        },
        unused=tuple(n for n in tensors if n.startswith(AUXILIARY)),
        size=SIZE,
    )


def _class_names(count: int, given: Sequence[str]) -> tuple[str, ...]:
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

    published = DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"]
    if given and len(given) == count:
        return tuple(given)
    if count != len(published):
        raise WeightsError(
            f"the checkpoint scores {count} classes; pass class_names with as many names, in the order of their ids"
        )
    return (BACKGROUND, *published[1:])
