"""Files that would run code are refused before they are loaded; torch itself runs some of them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export.pt2_archive._package import load_pt2

from visiongraft.errors import ArtifactError
from visiongraft.exporters.pt2.runtime import Pt2Predictor

Records = dict[str, bytes]
Program = dict[str, Any]
PROGRAM = "archive/models/model.json"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
EXAMPLES = "archive/data/sample_inputs/model.pt"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self.target, "executed")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that harmful content writes."""
    return tmp_path / "executed"


@pytest.fixture
def altered(program_file: Any, tmp_path: Path) -> Callable[[Callable[[Records], None]], Path]:
    """Return a function that writes the exported file with other records."""

    def write(change: Callable[[Records], None]) -> Path:
        with zipfile.ZipFile(program_file.path) as archive:
            records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        change(records)
        path = tmp_path / "altered.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in records.items():
                archive.writestr(name, content)
        return path

    return write


def program(change: Callable[[Program], None]) -> Callable[[Records], None]:
    """Change the program's record."""

    def apply(records: Records) -> None:
        content = json.loads(records[PROGRAM])
        change(content)
        records[PROGRAM] = json.dumps(content).encode()

    return apply


def graph(content: Program) -> dict[str, Any]:
    found: dict[str, Any] = content["graph_module"]["graph"]
    return found


def pickled(thing: Any) -> bytes:
    content = io.BytesIO()
    torch.save(thing, content)
    return content.getvalue()


def pickled_examples(records: Records, mark: Path) -> None:
    records[EXAMPLES] = pickled(((Evil(mark),), {}))


def pickled_weight(records: Records, mark: Path) -> None:
    config = json.loads(records[WEIGHTS])
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    records[WEIGHTS] = json.dumps(config).encode()
    records[f"archive/data/weights/{entry['path_name']}"] = pickled(Evil(mark))


def pickled_object(records: Records, mark: Path) -> None:
    config = json.loads(records[CONSTANTS])
    entry = next(iter(config["config"].values()))
    entry.update(path_name="opaque_obj_0", use_pickle=True, tensor_meta=None)
    records[CONSTANTS] = json.dumps(config).encode()
    records["archive/data/constants/opaque_obj_0"] = pickle.dumps(Evil(mark))


def weights_of_the_older_format(records: Records, mark: Path) -> None:
    records["archive/data/weights/model.pt"] = pickled({"a": Evil(mark)})


def evaluated_formula(records: Records, mark: Path) -> None:
    def change(content: Program) -> None:
        for value in graph(content)["sym_int_values"].values():
            value["as_expr"]["expr_str"] = f"__import__('pathlib').Path('{mark}').touch()"
            value["as_expr"]["hint"] = None

    program(change)(records)


RUN_BY_TORCH = (
    pickled_examples,
    pickled_weight,
    pickled_object,
    weights_of_the_older_format,
    evaluated_formula,
)


@pytest.mark.parametrize("plant", RUN_BY_TORCH, ids=lambda plant: plant.__name__)
def test_what_torch_runs_while_loading_is_refused(
    plant: Callable[[Records, Path], None], altered: Any, mark: Path
) -> None:
    path = altered(lambda records: plant(records, mark))
    with pytest.raises(ArtifactError, match=r"cannot be loaded: it is not a \.pt2 file") as caught:
        Pt2Predictor(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    with suppress(Exception):  # where it goes wrong, it does so too late
        load_pt2(str(path))
    assert mark.exists()


def target(name: str) -> Callable[[Program], None]:
    def change(content: Program) -> None:
        graph(content)["nodes"][0]["target"] = name

    return change


def code_in_a_name(content: Program) -> None:
    name = "x\n    raise SystemExit"
    graph(content)["inputs"][-1]["as_tensor"]["name"] = name


def conditions(content: Program) -> None:
    content["guards_code"] = ["exit()"]


def notes(content: Program) -> None:
    graph(content)["nodes"][0]["metadata"] = {"torch_fn": "a;b"}


def imported_enum(content: Program) -> None:
    signature = content["graph_module"]["signature"]
    spec = {"type": "builtins.dict", "context": '[{"__enum__": true}]', "children_spec": []}
    for entry in [signature, *content["graph_module"]["module_call_graph"]]:
        for holder in (entry, entry.get("signature") or {}):
            if "out_spec" in holder:
                holder["out_spec"] = json.dumps([1, spec])


def quote_in_a_formula(content: Program) -> None:
    value = next(iter(graph(content)["sym_int_values"].values()))
    value["as_expr"]["expr_str"] = "Symbol('s0').func.__globals__"


def function_in_a_formula(content: Program) -> None:
    value = next(iter(graph(content)["sym_int_values"].values()))
    value["as_expr"]["expr_str"] = "exit()"


REFUSED = {
    "a function of torch": (target("torch.hub.load"), "'torch.hub.load'"),
    "a module inside torch": (target("torch.serialization.os.system"), "os.system"),
    "an operator that maps a file": (target("torch.ops.aten.from_file.default"), "from_file"),
    "a TorchScript operator": (target("torch.ops.aten.save.default"), "aten.save"),
    "an attribute of the operators": (target("torch.ops.aten.__class__.mro"), "__class__"),
    "an operator of a plugin": (target("torch.ops.my.own.default"), "'torch.ops.my.own"),
    "a caller of functions": (target("_operator.methodcaller"), "methodcaller"),
    "a loop of another kind": (target("torch.ops.higher_order.cond"), "higher_order.cond"),
    "code in a name": (code_in_a_name, "SystemExit"),
    "conditions": (conditions, "it has guards_code"),
    "notes": (notes, "it has metadata"),
    "an enum to import": (imported_enum, "__enum__"),
    "an attribute in a formula": (quote_in_a_formula, "__globals__"),
    "a function in a formula": (function_in_a_formula, r"exit\(\)"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_program_that_is_more_than_tensor_operators_is_refused(
    change: Callable[[Program], None], message: str, altered: Any
) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        Pt2Predictor(altered(program(change)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["archive/data/aotinductor/model/a.so", "archive/executorch/a", "archive/extra/other.json"],
)
def test_other_records_are_refused(name: str, altered: Any) -> None:
    with pytest.raises(ArtifactError, match="it holds '"):
        Pt2Predictor(altered(lambda records: records.update({name: b"x"})))


def test_records_beside_the_archive_are_never_read(altered: Any, mark: Path) -> None:
    """If the program is damaged, torch.export.load looks for its older format."""

    def change(records: Records) -> None:
        records[PROGRAM] = b"{}"
        records.update({"version": b"8.20", "serialized_state_dict.pt": pickled(Evil(mark))})

    with pytest.raises(ArtifactError, match="cannot be loaded"):
        Pt2Predictor(altered(change))
    assert not mark.exists()


def test_a_file_above_the_size_limit_is_refused(program_file: Any) -> None:
    with pytest.raises(ArtifactError, match="larger than max_bytes=1000"):
        Pt2Predictor(program_file.path, max_bytes=1000)


def test_an_unaltered_copy_opens(altered: Any) -> None:
    opened = Pt2Predictor(altered(lambda records: None))
    assert opened.content_sha256() == opened.metadata["certificate"]["content_sha256"]


def test_another_programs_file_and_other_files_are_one_line(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    path = tmp_path / "other.pt2"
    torch.export.save(torch.export.export(Doubled(), (torch.ones(2),)), path)
    for content in (None, b"", b"PK\x05\x06" + bytes(18), b"text"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(
            ArtifactError, match=r"not a \.pt2 file that visiongraft wrote"
        ) as caught:
            Pt2Predictor(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match="is a folder"):
        Pt2Predictor(tmp_path)
