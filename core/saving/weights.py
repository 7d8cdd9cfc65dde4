"""Weights files: read without unpickling, fitted to a backbone, refused with the reason."""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from visiongraft.backbone import FROM_FILE, UNKNOWN, Backbone
from visiongraft.errors import OptionError, WeightsError, name_some
from visiongraft.saving.tensors import RATIO, damaged, first, most_bytes, unpacked_bytes, unusable

log = logging.getLogger("visiongraft")

# Where training programs put the tensors of a checkpoint; averaged ones come first, because they
# are the ones that such programs evaluate.
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "teacher",
    "state_dict",
    "model_state_dict",
    "net_state_dict",
    "student",
    "model",
    "module",
    "net",
)
PREFIXES = ("module.", "_orig_mod.", "model.")  # taken off where all names have them
# Parts of larger networks that may be the backbone; the one of which most tensors fit is taken.
# fastai's learners are a sequence of body, "0.", and head.
PARTS = (*PREFIXES, "backbone.", "encoder.", "teacher.", "student.", "network.", "net.", "0.")
NESTED = 3  # such prefixes in a row
# Settings and results that training programs save beside tensors: containers of values, without code.
SAFE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]
SHOWN = 5
LICENSE_KEYS = ("license", "modelspec.license")  # in the metadata of safetensors files
DEEPEST = 100  # dicts that are searched for tensors


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file compare with those of a backbone.

    Attributes:
        matching: Tensors that fit, by the backbone's names.
        missing: Names that the backbone has and the file has not.
        unexpected: Names that the file has and the backbone has not.
        reshaped: Names that both have, each with both shapes in words.
    """

    matching: dict[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, left over or of another shape."""
        return not (self.missing or self.unexpected or self.reshaped)

    def in_words(self) -> str:
        """List what does not fit, each kind cut to its first few names."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "reshaped": self.reshaped,
        }
        return "; ".join(f"{k} {len(v)}: {name_some(v, SHOWN)}" for k, v in kinds.items() if v)


def load_weights(
    backbone: Backbone, path: Path, *, partial: bool = False, license: str | None = None
) -> None:
    """Load a weights file into a backbone and note in its provenance where they came from.

    Args:
        backbone: The backbone; changed in place.
        path: A ``.safetensors`` file, or a PyTorch file that holds plain tensors.
        partial: Load the tensors that fit, if not all do.
        license: License of the weights; ``None`` for the one that the file states, if it does.

    Raises:
        WeightsError: The file cannot be read, does not fit, or nothing of it fits.
    """
    tensors = read_weights(path)
    loaded = fit_weights(backbone, tensors, f"weights file {path}", partial=partial)
    log.info("weights file %s: tensors loaded: %s", path, _by_stage(backbone, loaded))
    provenance = {
        **file_provenance(path, license),
        "tensors": f"{len(loaded)} of {len(_expected(backbone))} loaded",
    }
    backbone.info = replace(backbone.info, provenance=provenance)


def file_provenance(path: Path, license: str | None = None) -> dict[str, str]:
    """Return where weights came from that a file contains, see ``BackboneInfo.provenance``.

    Args:
        path: The file.
        license: License of the weights; ``None`` for the one that the metadata of a safetensors file state, and
            ``"unknown"`` without any.
    """
    stated = license or _stated_license(path) or UNKNOWN
    digest = file_sha256(path)
    return {"source": FROM_FILE, "weights": path.name, "license": stated, "sha256": digest}


def check_license(license: object, weights: object) -> None:
    """Refuse a license for other weights than those of a file.

    Args:
        license: What the user stated, or ``None``.
        weights: The file, or what is not one.

    Raises:
        OptionError: It is not a text, or the weights are not those of a file.
    """
    if license is None:
        return
    if not isinstance(license, str) or not license.strip() or not license.isprintable():
        raise OptionError(
            f"weights_license={license!r} is not the name of a license, such as 'MIT'"
        )
    if weights is None or weights == "pretrained":
        raise OptionError(
            f"weights_license={license!r} is for a weights file; published weights state their own license"
        )


def fit_weights(
    backbone: Backbone, tensors: dict[str, Tensor], origin: str, *, partial: bool = False
) -> list[str]:
    """Translate tensors to a backbone's names and shapes, and load them.

    Of a larger network, the part that fits best is taken, such as the tensors that begin with ``backbone.``.

    Args:
        backbone: The backbone; changed in place, or not at all if the tensors are refused.
        tensors: Tensors by their published names.
        origin: What the tensors are, for messages.
        partial: Load the tensors that fit, if not all do.

    Returns:
        The names of the tensors that were loaded, counters of seen batches left out.

    Raises:
        WeightsError: They do not fit, or none does.
    """
    fit = max(_fits(backbone, tensors), key=lambda each: len(each.matching))
    if not fit.matching:
        fit = _fit_elsewhere(backbone, tensors, origin) or fit
    expected = _expected(backbone)
    loaded = [name for name in expected if name in fit.matching]
    if not loaded:
        raise WeightsError(
            f"{origin} contains no tensors that fit {backbone.info.name} ({fit.in_words()}); "
            "it is for another architecture"
        )
    if not (fit.complete or partial):
        raise WeightsError(
            f"{origin} does not fit {backbone.info.name}: {fit.in_words()}; if it is meant to "
            f"differ, partial=True (--partial) loads the {len(loaded)} of {len(expected)} tensors that fit"
        )
    own = backbone.state_dict()
    fault = first(damaged(fit.matching, own))
    if fault:
        raise WeightsError(f"{origin}: {fault}; it is damaged, or no weights: fetch it again")
    with torch.no_grad():
        for name, tensor in fit.matching.items():
            own[name].copy_(tensor)
    return loaded


def compare(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Fit:
    """Compare tensors with a backbone's own, by name and shape.

    A first convolution for another number of image channels is adapted, not counted as reshaped.

    Args:
        backbone: The backbone; not changed.
        tensors: Tensors by the backbone's names.

    Returns:
        What fits and what does not; names are shown without the part that all of them share.
    """
    own = backbone.state_dict()
    channels = backbone.info.in_channels
    given = {n: _adapted(t, own[n], channels) if n in own else t for n, t in tensors.items()}
    matching = {n: t for n, t in given.items() if n in own and t.shape == own[n].shape}
    shared = _shared_prefix(own)
    reshaped = [n for n in given if n in own and n not in matching]
    return Fit(
        matching,
        tuple(n.removeprefix(shared) for n in _expected(backbone) if n not in given),
        tuple(n.removeprefix(shared) for n in given if n not in own),
        tuple(
            f"{n.removeprefix(shared)} {tuple(given[n].shape)} instead of {tuple(own[n].shape)}"
            for n in reshaped
        ),
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file; nothing in it is ever executed.

    A checkpoint's usual wrappers are taken off: an entry such as ``state_dict`` or ``model``
    (averaged weights are preferred), and prefixes such as ``module.`` that all names share.

    Args:
        path: A ``.safetensors`` file, or a PyTorch file that holds plain tensors.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        WeightsError: The file is missing, unreadable or holds no tensors.
    """
    try:
        if path.is_dir():
            raise WeightsError(f"weights {path} is a folder; name a weights file in it")
        if not path.exists():
            raise WeightsError(
                f"weights file {path} does not exist; pass an existing file, 'pretrained' or None"
            )
        if path.stat().st_size == 0:
            raise WeightsError(f"weights file {path} is empty; download it again")
        most = most_bytes(path)
        if unpacked_bytes(path) > most:
            raise WeightsError(
                f"weights file {path} would unpack to {unpacked_bytes(path)} bytes, more than "
                f"{RATIO} times its size; if you trust it, save it again without compression"
            )
        content = _read_file(path)
    except OSError as error:
        raise WeightsError(
            f"weights file {path} cannot be read: {error.strerror or error}"
        ) from error
    tensors = _unwrapped(content)
    if not tensors:
        raise WeightsError(f"weights file {path} holds no tensors by name; is it a checkpoint?")
    fault = first(unusable(tensors, most))
    if fault:
        raise WeightsError(f"weights file {path}: {fault}; save it as dense float tensors")
    return tensors


def _fits(backbone: Backbone, tensors: dict[str, Tensor]) -> Iterator[Fit]:
    """Compare each part of a network that may be the backbone."""
    for part in _parts(tensors):
        yield compare(backbone, backbone.convert_weights(part))
        if all(name.partition(".")[0].isdecimal() for name in part):
            yield compare(backbone, _by_position(backbone, part))


def _fit_elsewhere(backbone: Backbone, tensors: dict[str, Tensor], origin: str) -> Fit | None:
    """Find the part that a program of the user's own called by a name that is not usual.

    Returns:
        The comparison of the part under the only prefix where most of the backbone is; ``None`` if there is none.

    Raises:
        WeightsError: It is under several.
    """
    split = [name.split(".") for name in tensors]
    prefixes = dict.fromkeys(
        ".".join(parts[:depth]) + "."
        for depth in range(1, NESTED + 1)
        for parts in split
        if len(parts) > depth
    )
    found: dict[str, Fit] = {}
    for prefix in prefixes:
        part = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        fit = compare(backbone, backbone.convert_weights(part))
        if len(fit.matching) > len(_expected(backbone)) / 2:
            found[prefix] = fit
    if len(found) > 1:
        raise WeightsError(
            f"{origin} contains {backbone.info.name} under several prefixes ({name_some(list(found), SHOWN)}); "
            "save the tensors of one of them, without the prefix"
        )
    for prefix in found:
        log.info("%s: the tensors under %s are taken", origin, prefix)
    return next(iter(found.values()), None)


def _by_position(backbone: Backbone, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name numbered layers as the backbone's, in order, as fastai numbers the layers of torchvision's networks."""
    own = list(backbone.state_dict())
    shared = _shared_prefix(own)
    layers = dict.fromkeys(name.removeprefix(shared).partition(".")[0] for name in own)
    numbers = sorted({int(name.partition(".")[0]) for name in tensors})
    names = dict(zip(map(str, numbers), layers, strict=False))
    split = {name: name.partition(".")[::2] for name in tensors}
    return {
        f"{shared}{names[number]}.{rest}" if number in names else name: tensors[name]
        for name, (number, rest) in split.items()
    }


def _parts(tensors: dict[str, Tensor], depth: int = NESTED) -> Iterator[dict[str, Tensor]]:
    """Yield all tensors, and those of each part of a larger network, without its prefix."""
    yield tensors
    for prefix in PARTS if depth else ():
        inside = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if inside:
            yield from _parts(inside, depth - 1)


def _by_stage(backbone: Backbone, loaded: Sequence[str]) -> str:
    """Count the tensors of each stage, and those of them that were loaded, in words."""
    stage_of = backbone.info.stage_of
    total = Counter(stage_of[name] for name in _expected(backbone) if name in stage_of)
    found = Counter(stage_of[name] for name in loaded if name in stage_of)
    return ", ".join(f"{stage} {found[stage]}/{total[stage]}" for stage in backbone.stages)


def file_sha256(path: Path) -> str:
    """Hash a file.

    Args:
        path: The file.

    Returns:
        SHA-256 in hexadecimal.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stated_license(path: Path) -> str | None:
    """Return the license in the metadata of a safetensors file that has been read."""
    if path.suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    return next(
        (metadata[key].strip() for key in LICENSE_KEYS if metadata.get(key, "").strip()), None
    )


def _read_file(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old pickle protocols; what matters is raised
            with torch.serialization.safe_globals(SAFE):
                return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged files make the parsers raise almost anything
        code = re.search(r"\bGLOBAL (\S+)", str(error))
        if code:
            raise WeightsError(
                f"weights file {path} holds Python objects ({code[1]}), not only tensors; reading "
                "it could run code, so it was not read: save it again as safetensors"
            ) from error
        raise WeightsError(
            f"weights file {path} is damaged or not a weights file ({type(error).__name__}); "
            "expected safetensors, or a PyTorch file that holds plain tensors"
        ) from error


def _unwrapped(content: Any, seen: set[int] | None = None) -> dict[str, Tensor]:
    """Take off wrappers and prefixes; dicts that were seen before, or lie too deep, hold nothing."""
    seen = set() if seen is None else seen
    if not isinstance(content, dict) or id(content) in seen or len(seen) > DEEPEST:
        return {}
    seen.add(id(content))
    for wrapper in WRAPPERS:
        inside = _unwrapped(content.get(wrapper), seen)
        if inside:
            return inside
    # `n_averaged` is the counter that averaged models carry beside their wrapped names.
    tensors = {str(n): t for n, t in content.items() if isinstance(t, Tensor) and n != "n_averaged"}
    while tensors:
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None)
        if prefix is None:
            break
        tensors = {n.removeprefix(prefix): t for n, t in tensors.items()}
    return tensors


def _adapted(tensor: Tensor, own: Tensor, channels: int) -> Tensor:
    """Fit the kernel of a convolution on RGB images to another number of image channels."""
    from timm.models import adapt_input_conv

    on_rgb = tensor.ndim == 4 and own.ndim == 4 and tensor.shape[1] == 3
    if channels == 3 or not on_rgb or own.shape[1] != channels:
        return tensor
    adapted: Tensor = adapt_input_conv(channels, tensor)
    return adapted


def _expected(backbone: Backbone) -> list[str]:
    # A counter of batches does not affect results; older files lack it.
    return [n for n in backbone.state_dict() if not n.endswith("num_batches_tracked")]


def _shared_prefix(names: Iterable[str]) -> str:
    first = {name.partition(".")[0] for name in names}
    return f"{first.pop()}." if len(first) == 1 else ""
