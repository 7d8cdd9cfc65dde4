"""Commands that list what is installed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from visiongraft.cli.options import Json, describe_type
from visiongraft.cli.output import Answer, table
from visiongraft.errors import BackboneError, OptionError

if TYPE_CHECKING:
    from rich.table import Table

    from visiongraft.backbone import Recommendation
    from visiongraft.registry.manager import PluginManager, PluginRecord
    from visiongraft.task import Task


def tasks(as_json: Json = False) -> Answer:
    """List tasks and their options."""
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "description": _summary(kind),
            **_headline(kind),
            "options": _options(kind),
        }
        for name, kind in _manager().tasks().items()
    ]
    parts: list[Any] = []
    for task in found:
        parts += [f"{task['name']}: {task['description']}"]
        parts += [f"headline metric: {task['headline']} ({task['better']} is better)"]
        rows = [[o["name"], o["type"], _format(o["default"])] for o in task["options"]]
        parts += [table(["option (--set)", "type", "default"], rows), ""]
    return Answer({"tasks": found}, parts)


def backbones(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN", help="Part of a name, or a pattern, such as 'timm/resnet*'."
        ),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="List the names of all backbones.")
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure how long each recommended one takes for an image here."
        ),
    ] = False,
    as_json: Json = False,
) -> Answer:
    """List recommended backbones, all of them (--all), or those whose names match PATTERN."""
    from visiongraft.backbone import backbone_names

    sources = _manager().backbone_sources().values()
    names = backbone_names(sources)
    if measure and (pattern or everything):
        raise OptionError("--measure is for the recommended backbones; omit --all and PATTERN")
    known = [] if pattern else [each for source in sources for each in source.recommended()]
    if known and not everything:
        known.sort(key=lambda each: (each.gmacs is None, each.gmacs or each.parameters))
        times = _measured(known) if measure else {}
        facts = {
            "recommended": [
                {**vars(each), **({"cpu_ms": times[each.name]} if measure else {})}
                for each in known
            ],
            "backbones": names,
        }
        more = f"{len(names)} in all: visiongraft backbones --all, or a part of the name"
        return Answer(facts, [_recommended(known, times), "", more])
    matching = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    found = [name for name in names if fnmatchcase(name.lower(), matching.lower())]
    if not found:
        raise BackboneError(_manager().missing("backbone", pattern, names))
    return Answer({"backbones": found}, found)


def _measured(known: Sequence[Recommendation]) -> dict[str, float]:
    """Measure a forward pass of each backbone."""
    from visiongraft.tuning.forward_time import forward_milliseconds

    return {each.name: forward_milliseconds(each.name) for each in known}


def _recommended(known: Sequence[Recommendation], times: Mapping[str, float]) -> Table:
    columns = ["backbone", "parameters", "GMACs", "ImageNet", "source", "license", "offline"]
    columns += ["CPU ms"] if times else []
    rows = [
        [
            each.name,
            f"{each.parameters:.1f} M",
            "-" if each.gmacs is None else f"{each.gmacs:.2f}",
            f"{each.accuracy:.3f}",
            each.source,
            each.license,
            "yes" if each.offline else "no",
            *([f"{times[each.name]:.1f}"] if times else []),
        ]
        for each in known
    ]
    return table(columns, rows)


def schedules(as_json: Json = False) -> Answer:
    """List training schedules and their options."""
    found: list[dict[str, Any]] = []
    for name, schedule in _manager().schedules().items():
        parameters = list(inspect.signature(schedule.generate).parameters.values())[2:]
        options = {p.name: schedule.options.get(p.name, p.default) for p in parameters}
        summary = _summary(schedule.generate)
        found.append({"name": name, "description": summary, "options": options})
    return _listing("schedules", found, "name", "options", "description")


def exporters(as_json: Json = False) -> Answer:
    """List exporters and the file suffixes they write."""
    found = [
        {"name": name, "suffix": kind.suffix, "description": _summary(kind)}
        for name, kind in _manager().exporters().items()
    ]
    return _listing("exporters", found, "name", "suffix", "description")


def readers(as_json: Json = False) -> Answer:
    """List data readers from plugins and the kind of their targets."""
    found = [
        {"name": name, "targets": reader.targets, "description": _summary(type(reader))}
        for name, reader in _manager().readers().items()
    ]
    return _listing("readers", found, "name", "targets", "description")


def losses(as_json: Json = False) -> Answer:
    """List transfer losses (regularizers towards the pretrained network) and their options."""
    from visiongraft.training.transfer_losses import options_of

    found: list[dict[str, Any]] = []
    for name, kind in _manager().losses().items():
        options = {
            p.name: None if p.default is p.empty else p.default
            for p in options_of(kind)
            if p.kind is not p.VAR_KEYWORD
        }
        found.append({"name": name, "description": _summary(kind), "options": options})
    return _listing("losses", found, "name", "options", "description")


def adapters(as_json: Json = False) -> Answer:
    """List adapters (parameter-efficient fine-tuning) and their options."""
    found: list[dict[str, Any]] = []
    for name, kind in _manager().adapters().items():
        options = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
        found.append({"name": name, "description": _summary(kind), "options": options})
    return _listing("adapters", found, "name", "options", "description")


def scorers(as_json: Json = False) -> Answer:
    """List scorers (how well a backbone fits a dataset, before training) and their options."""
    found: list[dict[str, Any]] = []
    for name, kind in _manager().scorers().items():
        options = {p.name: p.default for p in inspect.signature(kind).parameters.values()}
        found.append({"name": name, "description": _summary(kind), "options": options})
    return _listing("scorers", found, "name", "options", "description")


def text_encoders(as_json: Json = False) -> Answer:
    """List text encoders, which describe classes in words for `visiongraft zero-shot`."""
    from visiongraft.lookup.text_encoders import text_encoder_names

    found = text_encoder_names(_manager().text_encoder_sources().values())
    return Answer({"text_encoders": found}, found)


def plugins(as_json: Json = False) -> Answer:
    """List plugins, what they provide, and their problems; exit with 1 if there are any."""
    from visiongraft.hookspecs import API_VERSION

    records = _manager().records
    found = [
        {
            "name": r.name,
            "distribution": r.distribution,
            "version": r.version,
            "api": r.api,
            "disabled": r.blocked,
            "provides": r.provides,
            "functions": r.functions,
            "problems": r.problems,
        }
        for r in records
    ]
    rows = []
    for r in records:
        provided = "disabled" if r.blocked else _provided(r)
        rows.append([r.name, r.distribution, r.version, r.api, provided])
    problems = [f"problem: {r.owner}: {problem}" for r in records for problem in r.problems]
    columns = ["plugin", "distribution", "version", "API", "provides"]
    shown: list[Any] = [table(columns, rows), *problems]
    api = ".".join(map(str, API_VERSION))
    return Answer({"api": api, "plugins": found}, shown, exit_code=1 if problems else 0)


def _manager() -> PluginManager:
    from visiongraft.registry.manager import plugins  # searched for by these commands only

    return plugins()


def _listing(kind: str, found: list[dict[str, Any]], *columns: str) -> Answer:
    rows = [[_format(item[column]) for column in columns] for item in found]
    return Answer({kind: found}, [table(columns, rows)])


def _provided(record: PluginRecord) -> str:
    parts = [
        f"{kind} {', '.join(name or '(no prefix)' for name in names)}"
        for kind, names in record.provides.items()
    ]
    parts += [f"{kind} {record.name}" for kind in record.functions]
    return "; ".join(parts) or "-"


def _options(kind: type[Any]) -> list[dict[str, Any]]:
    hints = get_type_hints(kind)
    return [
        {"name": f.name, "type": describe_type(hints[f.name]), "default": _default(f)}
        for f in fields(kind)
    ]


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def _headline(kind: type[Task]) -> dict[str, Any]:
    """Return the headline of a task with default options; ``None`` if an option decides it."""
    try:
        task: Task | type[Task] = kind()
    except (TypeError, OptionError):  # an option is required
        task = kind
    return {
        name: None if isinstance(value := getattr(task, name), property) else value
        for name in ("headline", "better")
    }


def _summary(item: object) -> str:
    """Return the first line of the docstring."""
    return (inspect.getdoc(item) or "").partition("\n")[0].replace("``", "")


def _format(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{name}={_format(each) or '()'}" for name, each in value.items())
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
