"""Indices and titles of items."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import UserError
from pipeline.ingest.vocabulary import build_vocabulary, count_items, item_indices, items_table, merge_counts


def _log(*items: str, titles: list[str | None] | None = None) -> pa.Table:
    columns = {"item": pa.array(items, pa.string())}
    if titles is not None:
        columns["title"] = pa.array(titles, pa.string())
    return count_items(pa.table(columns))


def _catalogue(**titles: str | None) -> pa.Table:
    return pa.table({"item": pa.array(list(titles)), "title": pa.array(list(titles.values()), pa.string())})


def test_indices_are_ranks_of_text_over_log_and_catalogue() -> None:
    log = merge_counts([_log("10", "9", "10"), _log("b")])
    catalogue = pa.table({"item": ["b", "9", "10", "1"], "title": ["B", "Nine", "Ten", "One"]})
    vocabulary = build_vocabulary(log, catalogue, "error")
    assert vocabulary.item_ids.to_pylist() == ["1", "10", "9", "b"]
    assert (vocabulary.in_log, vocabulary.in_catalogue) == (3, 4)
    indices = item_indices(pa.chunked_array([["b", "1", "absent"]]), vocabulary.item_ids)
    assert indices.to_pylist() == [4, 1, None]
    table = items_table(vocabulary, np.array([0, 0, 2, 1, 1]))
    assert table.to_pylist()[1] == {"item_index": 2, "item_id": "10", "title": "Ten", "count": 2}
    assert table.schema.field("item_index").type == pa.int32()


def test_items_without_title_are_named() -> None:
    log = merge_counts([_log(*"abcdefg")])
    with pytest.raises(UserError, match=r"6 items of the log have no title: b, c, d, e, f, \.\.\.\."):
        build_vocabulary(log, _catalogue(a="A", b=None), "error")
    with pytest.raises(UserError, match=r"1 item of the log has no title: g\. .*data.missing_title: drop"):
        build_vocabulary(log, _catalogue(a="A", b="B", c="C", d="D", e="E", f="F"), "error")
    with pytest.raises(
        UserError, match=r"no title: .*Fill in their titles in the log, or set data\.items to a catalogue"
    ):
        build_vocabulary(log, None, "error")


def test_items_without_title_can_be_dropped() -> None:
    vocabulary = build_vocabulary(merge_counts([_log("a", "b", "b", "c")]), _catalogue(a="A", d=None), "drop")
    assert vocabulary.item_ids.to_pylist() == ["a"]
    assert (vocabulary.dropped_items, vocabulary.dropped_interactions) == (2, 3)
    assert vocabulary.catalogue_without_title == 1


def test_titles_of_the_log_do_not_depend_on_its_order() -> None:
    blocks = [_log("a", "b", titles=["Z", None]), _log("a", "b", titles=["Y", "B"])]
    for order in (blocks, blocks[::-1]):
        assert build_vocabulary(merge_counts(order), None, "error").titles.to_pylist() == ["Y", "B"]


def test_counts_merge_in_stages() -> None:
    merged = merge_counts((_log("a", f"x{number}") for number in range(10)), merge_at=2).sort_by("item")
    assert merged["count"].to_pylist() == [10] + [1] * 10
