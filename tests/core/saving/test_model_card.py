"""The model card describes the model to anyone, whatever the values contain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_eval_result
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import visiongraft
from visiongraft.network import Network
from visiongraft.saving.model_card import model_card

Rows = list[list[str]]


def tables(card: str) -> dict[str, Rows]:
    """Read the tables of a card as a Markdown program does, by their headings."""
    found: dict[str, Rows] = {}
    title, inside = "", ""
    for token in MarkdownIt("commonmark").enable("table").parse(ModelCard(card).text):
        if token.type in ("heading_open", "td_open", "tr_open"):
            inside = token.type
            if inside == "tr_open":
                found.setdefault(title, []).append([])
        elif token.type == "inline" and inside == "heading_open":
            title = token.content
        elif token.type == "inline" and inside == "td_open":
            found[title][-1].append("".join(c.content for c in token.children or ()))
    return {title: [row for row in rows if row] for title, rows in found.items()}


def facts_of(card: str) -> dict[str, str]:
    """Return the rows under the heading Facts."""
    return {name: value for name, value in tables(card)["Facts"]}


def test_a_card_contains_task_backbone_and_every_table_of_facts(toy_network: Network) -> None:
    facts = {"data": {"kind": "toy"}, "metrics": {"share_right": 0.123456}, "note": "no table"}
    card = model_card(toy_network, facts)
    assert list(tables(card)) == ["Task", "Backbone", "Licenses", "Data", "Metrics"]
    assert ModelCard(card).text.lstrip().startswith("# toy on toys/toy\n")
    assert card.endswith("\n") and not card.endswith("\n\n")
    assert tables(card)["Task"] == [["task", "toy"]]
    assert tables(card)["Data"] == [["kind", "toy"]]
    assert tables(card)["Metrics"] == [["share_right", "0.1235"]]
    assert f"visiongraft {visiongraft.__version__}" in card


def test_the_best_epoch_is_counted_from_one(toy_network: Network) -> None:
    card = model_card(toy_network, {"metrics": {"epoch": 0, "accuracy": 0.5}})
    assert tables(card)["Metrics"] == [["epoch", "1"], ["accuracy", "0.5"]]


def test_the_number_of_parameters_is_that_of_the_network(toy_network: Network) -> None:
    count = sum(p.numel() for p in toy_network.parameters())
    assert f"{count:,} parameters" in model_card(toy_network, {})


def test_the_origin_of_the_weights_is_recorded(toy_network: Network) -> None:
    provenance = {"source": "file", "license": "Apache-2.0"}
    toy_network.backbone.info = replace(toy_network.backbone.info, provenance=provenance)
    rows = tables(model_card(toy_network, {}))["Backbone"]
    assert rows == [
        ["name", "toys/toy"],
        ["input", "16 x 16 pixels, 3 channels, crop"],
        ["source", "file"],
        ["license", "Apache-2.0"],
    ]


def test_metadata_describes_the_task_for_deployment(toy_network: Network, Toy: Any) -> None:
    @dataclass(frozen=True)
    class Labeled(Toy):
        def metadata(self) -> dict[str, Any]:
            return {"labels": ["red", "Grün"], "threshold": 0.5}

    toy_network.task = Labeled()
    rows = tables(model_card(toy_network, {}))["Task"]
    assert rows == [["task", "toy"], ["labels", '["red", "Grün"]'], ["threshold", "0.5"]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00012345678, "0.0001235"),
        (float("nan"), "nan"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ({"a": [1, 2.5]}, '{"a": [1, 2.5]}'),
        ("two\nlines\r\nand a third", "two lines and a third"),
        ("x" * 400, "x" * 400),
        ("x" * 401, "x" * 397 + "..."),
        ("a|b", "a|b"),
        ("a\\|b", "a\\|b"),
        ("|" * 400, "|" * 400),
    ],
)
def test_values_are_shown_short_and_on_one_line(
    toy_network: Network, value: Any, shown: str
) -> None:
    assert facts_of(model_card(toy_network, {"facts": {"value": value}}))["value"] == shown


texts = st.text(st.sampled_from("|\\ab`*_<>&[]#-\n\r\x0b\x85\u2028 "), max_size=20)


@given(values=st.dictionaries(texts, texts | st.lists(texts, max_size=3), min_size=1, max_size=3))
def test_no_text_breaks_out_of_its_cell(toy_network: Network, values: dict[str, Any]) -> None:
    read = tables(model_card(toy_network, {"facts": values}))
    assert list(read) == ["Task", "Backbone", "Licenses", "Facts"]
    assert [len(row) for row in read["Facts"]] == [2] * len(values)
    for row, (name, value) in zip(read["Facts"], values.items(), strict=True):
        assert row[0].count("|") == name.count("|")
        assert row[1].count("|") == str(value).count("|")


def test_names_from_data_become_neither_tags_nor_links(toy_network: Network) -> None:
    name = "<script>alert(1)</script> ![x](http://a.b) \x1b[31m\x9b"
    card = model_card(toy_network, {"data": {name: 1, "classes": [name], "path": name}})
    assert "<script" not in card and "](" not in card
    assert "\x1b" not in card and "\x9b" not in card
    assert "&lt;script&gt;" in card


@pytest.mark.parametrize(
    "license, expected",
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Some: own\n--- license", {"license": "other", "license_name": "Some: own\n--- license"}),
        (None, {"license": "unknown"}),
    ],
)
def test_the_hub_reads_license_library_and_tags(
    toy_network: Network, license: str | None, expected: dict[str, str]
) -> None:
    provenance = {} if license is None else {"license": license}
    toy_network.backbone.info = replace(toy_network.backbone.info, provenance=provenance)
    data = ModelCard(model_card(toy_network, {})).data.to_dict()
    assert data == {**expected, "library_name": "visiongraft", "tags": ["toy", "transfer-learning"]}


def test_the_hub_reads_the_headline_as_a_result(toy_network: Network) -> None:
    """As ``metadata_eval_result`` of the Hub's own library makes one."""
    card = ModelCard(model_card(toy_network, {"metrics": {"share_right": 0.75, "epoch": 3}}))
    made = metadata_eval_result(
        model_pretty_name="toy on toys/toy",
        task_pretty_name="toy",
        task_id="toy",
        metrics_pretty_name="share_right",
        metrics_id="share_right",
        metrics_value=0.75,
        dataset_pretty_name="validation images",
        dataset_id="validation",
        dataset_split="validation",
    )
    (read,), (expected,) = (data.eval_results for data in (card.data, ModelCardData(**made)))
    assert isinstance(read, EvalResult) and read.is_equal_except_value(expected)
    assert read.metric_value == expected.metric_value == 0.75
    assert card.data.model_name == "toy on toys/toy"
    again = ModelCardData(**card.data.to_dict())  # raises for what the library cannot read
    assert again.to_dict() == card.data.to_dict()


@pytest.mark.parametrize("metrics", [{}, {"share_right": float("nan")}, {"other": 1.0}, None])
def test_without_a_number_there_is_no_result(toy_network: Network, metrics: Any) -> None:
    card = ModelCard(model_card(toy_network, {"metrics": metrics}))
    assert card.data.eval_results is None


def test_licenses_of_all_weights_and_what_they_forbid_stand_in_the_card(
    toy_network: Network,
) -> None:
    provenance = {
        "license": "mit",
        "before: license": "cc-by-nc-4.0",
        "before: before: license": "AGPL-3.0",
    }
    toy_network.backbone.info = replace(toy_network.backbone.info, provenance=provenance)
    rows = dict(tables(model_card(toy_network, {}))["Licenses"])
    assert (rows["weights"], rows["before: weights"]) == ("mit", "cc-by-nc-4.0")
    assert "forbids commercial use" in rows["note 1"] and "offered as a service" in rows["note 2"]
    assert "not known" in rows["training images"]
