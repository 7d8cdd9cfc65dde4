"""Which exported programs may be loaded.

``torch.export.load`` can run code of a file's author: it unpickles, looks functions up by any name,
and passes texts to Python's ``eval`` and ``exec``. So a file is read as data first, and all of it must
be on the lists here: records, operators, names, formulas of sizes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

LIBRARIES = ("aten", "torchvision")  # whose operators a program may use
_TOUCH_FILES = ("from_file", "save")
_RECORD = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id"
    r"|models/model\.json|data/sample_inputs/model\.pt|extra/(metadata|certificate)\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
)
_WORD = re.compile(r"[\w.+\-]*")
_PLAIN_FUNCTION = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|xor"
    r"|lshift|rshift|getitem)|math\.[a-z0-9]+|torch\._?sym_[a-z_]+"
    r"|torch\.ops\.higher_order\.while_loop"
)
_TOKEN = re.compile(r"'(?P<text>[^']*)'|(?P<word>[A-Za-z_]\w*)|[\d.]+|[\s(),=-]")
_SYMBOL = re.compile(r"[a-z]{1,3}\d+|[\d.e+-]+")
_FORMULA_WORD = re.compile(
    r"Symbol|Integer|Float|Rational|Half|One|Zero|NegativeOne|Infinity|oo|[Tt]rue|[Ff]alse"
    r"|Boolean(True|False)|(non)?(positive|negative)|integer|real|precision"
    r"|Add|Mul|Pow|Abs|Min|Max|Where|Identity|And|Or|Not"
    r"|(Python)?Mod|(Floor|Clean|Ceil|FloatTrue|IntTrue)Div|ModularIndexing|[LR]Shift"
    r"|(Ceil|Floor|Trunc|Round)ToInt|(TruncTo|To)Float|RoundDecimal|PowByNatural|FloatPow"
    r"|(Une|E)quality|(Strict)?(Greater|Less)Than|Eq|Ne|Lt|Le|Gt|Ge"
)


def check_records(names: Iterable[str], examples: int) -> None:
    """Refuse an archive that holds more than a program, its tensors and its description.

    Args:
        names: Names of its records.
        examples: Bytes of its example inputs, which would be unpickled.

    Raises:
        ValueError: It does.
    """
    strange = next((name for name in names if not _RECORD.fullmatch(name)), None)
    if strange is not None:
        raise ValueError(f"it holds {strange!r}")
    if examples:
        raise ValueError("it holds pickled examples")


def check_tensors(config: Any) -> None:
    """Refuse tensors that would be unpickled.

    Args:
        config: The record of their locations, as JSON values.

    Raises:
        ValueError: One would be.
    """
    for name, entry in config["config"].items():
        if entry["use_pickle"] is not False:
            raise ValueError(f"{name!r} is pickled")
        if not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise ValueError(f"{name!r} is in {entry['path_name']!r}")
    _walk(config, "")


def check_program(program: Any) -> None:
    """Refuse a program that would run anything but tensor operators.

    Args:
        program: The record, as JSON values.

    Raises:
        ValueError: It would, or might.
    """
    _walk(program, "")


def libraries_of(text: str) -> set[str]:
    """Name the libraries whose operators a program's text mentions."""
    return set(re.findall(r"torch\.ops\.(\w+)\.", text))


def _walk(value: Any, key: str) -> None:
    if isinstance(value, dict):
        if value and key in ("metadata", "treespec_namedtuple_fields", "custom_obj_values"):
            raise ValueError(f"it has {key}")
        for name, inner in value.items():
            _check_text(name, "")
            _walk(inner, name)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, key)
    elif isinstance(value, str):
        _check_text(value, key)


def _check_text(text: str, key: str) -> None:
    if key in ("guards_code", "as_operator", "class_fqn"):
        raise ValueError(f"it has {key}")
    if key == "target":
        allowed = bool(_PLAIN_FUNCTION.fullmatch(text)) or _is_operator(text)
    elif key == "expr_str":
        allowed = _is_formula(text)
    elif key in ("in_spec", "out_spec"):
        allowed = _is_tree(json.loads(text))
    else:  # a text argument of an operator is never run
        allowed = key in ("as_string", "as_strings") or bool(_WORD.fullmatch(text))
    if not allowed:
        raise ValueError(f"it uses {text[:80]!r}")


def _is_operator(target: str) -> bool:
    """Check whether it is a tensor operator of a known library."""
    import torch

    parts = target.split(".")
    if len(parts) != 5 or parts[:2] != ["torch", "ops"] or parts[2] not in LIBRARIES:
        return False
    if parts[3] in _TOUCH_FILES:
        return False
    packet = getattr(getattr(torch.ops, parts[2]), parts[3], None)
    return isinstance(getattr(packet, parts[4], None), torch._ops.OpOverload)


def _is_formula(text: str) -> bool:
    """Check whether it is a formula of sizes, which is passed to ``eval``."""
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return False
        word, quoted = token["word"], token["text"]
        if word is not None and not _FORMULA_WORD.fullmatch(word):
            return False
        if quoted is not None and not _SYMBOL.fullmatch(quoted):
            return False
        position = token.end()
    return True


def _is_tree(spec: Any) -> bool:
    """Check whether it is a form of arguments or results made of plain containers."""
    if isinstance(spec, list):  # with its version
        return len(spec) == 2 and isinstance(spec[0], int) and _is_tree(spec[1])
    kinds = (None, "builtins.tuple", "builtins.list", "builtins.dict")
    if not isinstance(spec, dict) or spec["type"] not in kinds:
        return False
    names = json.loads(spec["context"] or "null")
    if names is not None and not all(isinstance(n, str) for n in names):
        return False
    return all(isinstance(inner, dict) and _is_tree(inner) for inner in spec["children_spec"])
