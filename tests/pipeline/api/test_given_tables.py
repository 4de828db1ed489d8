from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from cluster.storage import Storage
from pipeline.api.given_tables import TableShelf, content_of, to_arrow
from tests.small_log import small_log


def test_a_table_is_the_same_from_every_library() -> None:
    log = small_log()
    tables = [log, log.to_pandas(), pl.from_arrow(log), pl.from_arrow(log).to_pandas()]
    found = [to_arrow(table, "data.interactions") for table in tables]
    assert {content_of(table.combine_chunks()) for table in found} == {content_of(log)}
    assert all(table.column_names == log.column_names for table in found)


def test_its_content_is_what_counts_not_its_chunks_or_its_index() -> None:
    log = small_log()
    parts = pa.concat_tables([log.slice(0, 7), log.slice(7)])
    assert content_of(parts.combine_chunks()) == content_of(log)
    frame = log.to_pandas()
    shuffled_index = frame.set_index(pd.Index(range(5, 5 + len(frame))))
    assert content_of(to_arrow(shuffled_index, "x")) == content_of(log)
    changed = frame.assign(title=frame["title"].where(frame.index != 3, "another"))
    assert content_of(to_arrow(changed, "x")) != content_of(log)
    renamed = frame.rename(columns={"title": "name"})
    assert content_of(to_arrow(renamed, "x")) != content_of(log)


def test_a_named_index_is_data_and_categories_are_text() -> None:
    frame = small_log().to_pandas()
    indexed = to_arrow(frame.set_index("user_id"), "x")
    assert set(indexed.column_names) == set(frame.columns)
    grouped = to_arrow(frame.astype({"item_id": "category"}), "x")
    assert grouped.schema.field("item_id").type == pa.string()
    assert grouped["item_id"].to_pylist() == frame["item_id"].tolist()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([1, 2], ["data.items", "list is not a table", "pandas, polars or pyarrow"]),
        (pl.LazyFrame({"a": [1]}), ["lazy", "table.collect()"]),
        (pd.DataFrame({"a": ["x", 1, {}]}), ["cannot be stored", "values of one type"]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["column 'a' twice"]),
    ],
    ids=["list", "lazy", "mixed", "twice"],
)
def test_what_is_no_table_is_told(table: object, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        to_arrow(table, "data.items")
    assert all(word in str(caught.value) for word in words)


def test_a_table_is_kept_once_and_as_long_as_a_configuration_names_it(tmp_path: Path) -> None:
    run, log = Storage.at(tmp_path), small_log()
    shelf = TableShelf(run)
    file = shelf.keep(log, "interactions")
    assert pq.read_table(file).equals(log)
    written = Path(file).stat().st_mtime_ns
    assert TableShelf(run).keep(log, "interactions") == file
    assert Path(file).stat().st_mtime_ns == written
    run.write_text("config.yaml", f"data: {{interactions: {file}}}")
    other = shelf.keep(log.slice(1), "interactions")
    shelf.clear_unused()
    assert Path(file).exists()
    assert not Path(other).exists()
    # A later run by another log.
    later = TableShelf(run)
    other = later.keep(log.slice(1), "interactions")
    run.write_text("config.yaml", f"data: {{interactions: {other}}}")
    later.clear_unused()
    assert Path(other).exists()
    assert not Path(file).exists()
