from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from visiongraft.errors import ArtifactError
from visiongraft.exporters.runtime.onnx_file import MAX_BYTES, parse_onnx, read_onnx, refuse_unsafe

FLOAT = TensorProto.FLOAT


def graph_of(*nodes: onnx.NodeProto, name: str = "g") -> onnx.GraphProto:
    inputs = [helper.make_tensor_value_info("x", FLOAT, [1])] if name == "g" else []
    weight = numpy_helper.from_array(np.zeros(1, np.float32), f"weight_{name}")
    outputs = [helper.make_tensor_value_info("y", FLOAT, [1])]
    return helper.make_graph(list(nodes), name, inputs, outputs, [weight])


def model_of(graph: onnx.GraphProto, *, ir: int = 10, opset: int = 18) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, ir_version=ir, opset_imports=opsets)


def write(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


RELU = helper.make_node("Relu", ["x"], ["y"])


def test_an_exported_file_is_read_as_the_onnx_package_reads_it(exported: Any) -> None:
    found, model = refuse_unsafe(exported.path), exported.load()
    assert found.ir_version == model.ir_version
    assert found.opsets == {entry.domain: entry.version for entry in model.opset_import}
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert (found.domains, found.external_data) == (set(), False)


def test_absent_files_folders_and_other_content_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.onnx does not exist"):
        read_onnx(tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match="is a folder"):
        read_onnx(tmp_path)
    for content in (b"", b"no model", b"\x89PNG\r\n\x1a\n", b"{}", b"\x08\x0a"):
        path = tmp_path / "x.onnx"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="is not an ONNX file, or it is damaged"):
            read_onnx(path)


def test_a_file_over_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # takes no space
    with pytest.raises(ArtifactError, match="one ONNX file can hold 2147483647"):
        read_onnx(path)


def test_external_data_is_refused_wherever_it_hides(tmp_path: Path) -> None:
    outside = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="../secret.bin")
    inner = graph_of(RELU, name="inner")
    inner.initializer.append(outside)
    nodes = {
        "constant": helper.make_node("Constant", [], ["y"], value=outside),
        "branch": helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    }
    for node in nodes.values():
        with pytest.raises(ArtifactError, match="keeps weights in other files"):
            refuse_unsafe(write(tmp_path, model_of(graph_of(node))))
    graph = graph_of(RELU)
    graph.initializer.append(outside)
    with pytest.raises(ArtifactError, match="export it as one file"):
        refuse_unsafe(write(tmp_path, model_of(graph)))


def test_unknown_operators_are_refused_wherever_they_hide(tmp_path: Path) -> None:
    evil = helper.make_node("Evil", ["x"], ["y"], domain="my.evil")
    inner = graph_of(evil, name="inner")
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    for node in (evil, branch):
        with pytest.raises(ArtifactError, match=r"needs operators of my\.evil"):
            refuse_unsafe(write(tmp_path, model_of(graph_of(node))))
    model = model_of(graph_of(RELU))
    function = helper.make_function("f", "F", ["x"], ["y"], [evil], list(model.opset_import))
    model.functions.append(function)
    with pytest.raises(ArtifactError, match=r"needs operators of my\.evil"):
        refuse_unsafe(write(tmp_path, model))


def test_versions_that_onnxruntime_cannot_read_are_refused(tmp_path: Path) -> None:
    refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), ir=13, opset=26)))
    with pytest.raises(ArtifactError, match="has IR version 14; at most 13"):
        refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), ir=14)))
    with pytest.raises(ArtifactError, match="has opset 27; at most 26"):
        refuse_unsafe(write(tmp_path, model_of(graph_of(RELU), opset=27)))


# ---- varints that protocol buffers cut off ----


def varint(value: int, length: int = 0) -> bytes:
    """Encode an integer, with zeros or high bits up to a length."""
    parts = []
    while value >= 0x80 or len(parts) + 1 < length:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number: int, content: bytes, high_bits: int = 0, length: int = 0) -> bytes:
    """Encode a field of bytes whose tag has further bits above the 32 that count."""
    return varint(number << 3 | 2 | high_bits << 32, length) + varint(len(content)) + content


def outside(tag_bits: int = 0, value_bits: int = 0) -> bytes:
    """Return a model whose weight lies in another file, for readers that cut numbers off."""
    place = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    place.ClearField("raw_data")
    hidden = onnx.StringStringEntryProto(key="location", value="secret.bin").SerializeToString()
    tensor = place.SerializeToString() + field(13, hidden, tag_bits)
    tensor += varint(14 << 3 | tag_bits << 32) + varint(1 | value_bits << 32)
    graph = graph_of(RELU).SerializeToString() + field(5, tensor)
    model = model_of(graph_of(RELU))
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


def test_external_data_is_refused_by_its_plain_encoding(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(outside())
    with pytest.raises(ArtifactError, match="keeps weights in other files"):
        refuse_unsafe(tmp_path / "m.onnx")


@pytest.mark.parametrize("tag_bits", [1, 2, 5, 7, 8, 1 << 10, 1 << 31])
def test_a_tag_of_more_than_32_bits_hides_nothing(tag_bits: int, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(outside(tag_bits))
    with pytest.raises(ArtifactError, match="a number has more than 32 bits"):
        refuse_unsafe(tmp_path / "m.onnx")


@pytest.mark.parametrize("value_bits", [1, 1 << 20])
def test_a_location_of_more_than_32_bits_counts_as_another_file(
    value_bits: int, tmp_path: Path
) -> None:
    content = outside(value_bits=value_bits)
    (tmp_path / "m.onnx").write_bytes(content.replace(b"location", b"nowhere!"))
    with pytest.raises(ArtifactError, match="keeps weights in other files"):
        refuse_unsafe(tmp_path / "m.onnx")


def test_a_long_but_equal_tag_is_read_as_protocol_buffers_read_it() -> None:
    model = model_of(graph_of(RELU))
    entry = onnx.StringStringEntryProto(key="a", value="b").SerializeToString()
    content = model.SerializeToString() + field(14, entry, length=5)
    assert parse_onnx(memoryview(content)).metadata == {"a": "b"}
    assert onnx.load_from_string(content).metadata_props[0].value == "b"


@pytest.mark.parametrize(
    ("extra", "cause"),
    [
        (field(14, field(1, b"a") + field(2, b"b")) * 2, "'a' is declared twice"),
        (field(14, field(1, b"a") + field(1, b"c")), "given twice"),
        (field(14, field(1, b"a") + field(2, b"b") * 2), "given twice"),
        (field(8, field(1, b"") + b"\x10\x05"), "'' is declared twice"),
        (varint(0) + varint(1), "the number 0"),
        (varint(99 << 3 | 3) + varint(99 << 3 | 4), "wire type 3"),
        (varint(1 << 3) + varint(1 << 64, 10), "more than 64 bits"),
        (varint(1 << 3) + b"\x80" * 10 + b"\x01", "more than 64 bits"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(extra: bytes, cause: str) -> None:
    content = model_of(graph_of(RELU)).SerializeToString() + extra
    with pytest.raises(ValueError, match=cause):
        parse_onnx(memoryview(content))


def test_operators_that_a_file_defines_are_refused(tmp_path: Path) -> None:
    model = model_of(graph_of(RELU))
    call = helper.make_node("F", ["x"], ["y"])
    function = helper.make_function("", "F", ["x"], ["y"], [call], list(model.opset_import))
    model.functions.append(function)  # it calls itself
    with pytest.raises(ArtifactError, match="defines operators of its own"):
        refuse_unsafe(write(tmp_path, model))


def test_a_domain_is_printed_escaped(tmp_path: Path) -> None:
    evil = helper.make_node("Evil", ["x"], ["y"], domain="a\x1b[2J\nb\x07")
    with pytest.raises(ArtifactError) as caught:
        refuse_unsafe(write(tmp_path, model_of(graph_of(evil))))
    assert r"operators of a\x1b[2J\nb\x07, which" in str(caught.value)


def test_a_file_of_millions_of_tiny_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visiongraft.exporters.runtime.onnx_file.MAX_FIELDS", 1000)
    node = helper.make_node("Relu", ["x"], ["y"], ints=[1] * 2000)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        parse_onnx(memoryview(model_of(graph_of(node)).SerializeToString()))


# ---- fuzzing against the onnx package ----


def declared(model: onnx.ModelProto) -> tuple[set[str], bool, dict[str, str]]:
    """Return operator domains, external data and metadata by the onnx package."""
    domains: set[str] = set()
    external = False
    messages: list[Any] = [model]
    while messages:
        message = messages.pop()
        if isinstance(message, onnx.NodeProto):
            domains.add(message.domain)
        if isinstance(message, onnx.TensorProto):
            external |= message.data_location == TensorProto.EXTERNAL or bool(message.external_data)
        for kind, value in message.ListFields():
            if kind.message_type is not None:
                messages += [value] if hasattr(value, "ListFields") else list(value)
    return domains - {""}, external, {p.key: p.value for p in model.metadata_props}


def sensitive_model() -> bytes:
    """Return a model with everything that is looked for, at several depths."""
    outside_tensor = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    outside_tensor.ClearField("raw_data")
    outside_tensor.data_location = TensorProto.EXTERNAL
    outside_tensor.external_data.add(key="location", value="secret.bin")
    inner = graph_of(helper.make_node("Evil", ["x"], ["y"], domain="my.evil"), name="inner")
    inner.initializer.append(outside_tensor)
    branch = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=graph_of(RELU))
    model = model_of(graph_of(branch))
    helper.set_model_props(model, {"task": '"a"', "input": "{}"})
    return bytes(model.SerializeToString())


def mutant(content: bytes, random: np.random.Generator) -> bytes:
    """Stretch, flip, cut or copy some bytes."""
    changed = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(0, len(changed)))
        kind = int(random.integers(0, 5))
        if kind == 0:
            changed[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1:  # the same number with zeros or bits behind it
            bits = [int(b) | 0x80 for b in random.choice([0, 0, 0, 1, 127], random.integers(0, 9))]
            changed[at : at + 1] = bytes([changed[at] | 0x80, *bits, int(random.integers(0, 128))])
        elif kind == 2:
            changed[at] = int(random.integers(0, 256))
        elif kind == 3:
            del changed[at : at + int(random.integers(1, 4))]
        else:
            other = int(random.integers(0, len(changed)))
            changed[at:at] = changed[other : other + int(random.integers(1, 12))]
    return bytes(changed)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 20))]
)
def test_what_the_onnx_package_sees_is_seen(seed: int) -> None:
    random, content = np.random.default_rng(seed), sensitive_model()
    read = 0
    for _ in range(2000):
        changed = mutant(content, random)
        try:
            found = parse_onnx(memoryview(changed))
            model = onnx.load_from_string(changed)
        except (ValueError, DecodeError):
            continue
        read += 1
        domains, external, metadata = declared(model)
        assert domains <= found.domains
        assert found.external_data or not external
        assert found.metadata == metadata
        assert found.ir_version >= model.ir_version
    assert read > 100


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        parse_onnx(memoryview(content))
    except ValueError:
        pass


@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    branch = helper.make_node(
        "If", ["x"], ["y"], then_branch=graph_of(RELU, name="a"), else_branch=graph_of(RELU)
    )
    model = model_of(graph_of(branch))
    helper.set_model_props(model, {"input": "{}"})
    content = bytearray(model.SerializeToString())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:position]
    else:
        content[position] = data.draw(st.integers(0, 255))
    try:
        found = parse_onnx(memoryview(content))
    except ValueError:
        return
    assert found.opsets
