"""CSV and tab-separated tables, read in small blocks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cluster.errors import UserError
from pipeline.ingest.files import delimited
from pipeline.ingest.files.headers import read_header
from pipeline.ingest.files.sources import find_files


def _read(
    path: Path, content: str | bytes, columns: list[str], block: int = delimited.BLOCK_BYTES
) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = find_files(str(path), "data.interactions")[0]
    reader = delimited.read_csv if path.suffix == ".csv" else delimited.read_tabs
    return [row for table, _ in reader(file, columns, block) for row in table.to_pylist()]


def test_nothing_is_inferred_in_csv(tmp_path: Path) -> None:
    rows = _read(tmp_path / "a.csv", 'x,user\r\n1,007\r\n"a\nb, c",NA\r\n\r\n,\r\n', ["user", "x"])
    assert rows == [{"user": "007", "x": "1"}, {"user": "NA", "x": "a\nb, c"}, {"user": None, "x": None}]


def test_a_header_without_a_line_end_has_no_rows(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.csv", "user,x", ["user"]) == []


def test_csv_comes_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user\n" + "".join(f"u{number}\n" for number in range(200)))
    blocks = list(delimited.read_csv(find_files(str(tmp_path), "k")[0], ["user"], block_bytes=64))
    assert len(blocks) > 5
    assert [table["user"][0].as_py() for table, _ in blocks] == [f"u{first - 1}" for _, first in blocks]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3\n4,5\n", "line 3 has 1 field where the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields where the header has 2"),
        ("a,b\n" + "1,2\n" * 50 + "3", "line 52 has 1 field where"),
        (b"a,b\n1,2\n\xff,1\n", "not UTF-8"),
        ("a,b\n1,2\n" + '"' + "3,4\n" * 30_000, "cannot be read|fields where"),
    ],
)
def test_broken_csv_is_named_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _read(tmp_path / "log.csv", content, ["a", "b"])
    assert "log.csv" in caught.value.message


@pytest.mark.parametrize("rows", [{100: '"Heroes'}, {100: '"Heroes', 103: '"Villains'}])
def test_a_quote_left_open_swallows_no_rows_of_csv(tmp_path: Path, rows: dict[int, str]) -> None:
    lines = ["user,title", 'a,"Quoted"', *(f"u{i},{rows.get(i, 'A')}" for i in range(400))]
    with pytest.raises(UserError, match=r"log\.csv: the row that begins in line 103 cannot be read"):
        _read(tmp_path / "log.csv", "\n".join(lines) + "\n", ["user", "title"])


@pytest.mark.parametrize("name", ["log.tsv", "log.inter"])
@pytest.mark.parametrize(
    "rows",
    [
        {100: '"Heroes'},
        {100: '"Heroes', 200: '"Villains"'},
        {100: '"Heroes', 200: 'Villains"'},
        {0: '"Balanced" title', 100: '"Heroes', 399: '5" disk'},
        {399: 'last "'},
    ],
)
def test_quotes_in_tables_by_tabs_are_text(tmp_path: Path, name: str, rows: dict[int, str]) -> None:
    lines = ["user\ttitle", *(f"u{i}\t{rows.get(i, 'A')}" for i in range(400))]
    read = _read(tmp_path / name, "\n".join(lines) + "\n", ["user", "title"], block=512)
    expected: dict[int, str] = {**rows}
    if name == "log.tsv" and 200 in rows:
        expected[200] = rows[200].strip('"') if rows[200].startswith('"') else rows[200]
    assert read == [{"user": f"u{i}", "title": expected.get(i, "A")} for i in range(400)]


def test_cells_that_a_csv_writer_quoted(tmp_path: Path) -> None:
    """RecBole quotes nothing, so quotes around a title belong to it; pandas doubles the quotes inside."""
    titles = ['Say "yes"', "plain", '"whole"', 'a "b" c "d"', '"']
    frame = pd.DataFrame({"user": range(5), "title": titles})
    for name in ("a.tsv", "a.item"):
        frame.to_csv(tmp_path / name, sep="\t", index=False)
        assert [row["title"] for row in _read_file(tmp_path / name)] == titles
    plain = 'user\ttitle\n1\t"whole"\n2\t"Say" yes\n3\t""\n'
    (tmp_path / "b.item").write_text(plain)
    assert [row["title"] for row in _read_file(tmp_path / "b.item")] == ['"whole"', '"Say" yes', '""']
    (tmp_path / "b.tsv").write_text(plain)
    assert [row["title"] for row in _read_file(tmp_path / "b.tsv")] == ["whole", '"Say" yes', None]


def _read_file(path: Path) -> list[dict[str, object]]:
    return _read(path, path.read_bytes(), ["title"])


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_tabs_and_line_ends_in_quotes_belong_to_cells(tmp_path: Path, block: int) -> None:
    titles = ["A"] * 30 + ["two\nlines", "a\ttab", 'both\n"\t"', "B"] + ["C"] * 30
    frame = pd.DataFrame({"user": [f"u{i}" for i in range(len(titles))], "title": titles})
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    rows = _read(tmp_path / "a.tsv", (tmp_path / "a.tsv").read_bytes(), ["user", "title"], block)
    assert rows == frame.to_dict("records")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('a\tb\n1\t"x"\n2\t3\t4\n', "line 3 has 3 fields where the header has 2"),
        ('a\tb\n1\t"x\n2\n3\t4\n', "line 3 has 1 field where"),
        ('a\tb\n1\t"x\n2\t3\n4\n5\ty"\n', "line 4 has 1 field where"),
        (b"a\tb\n1\t2\n\xff\t1\n", "not UTF-8"),
        ("a\tb\n" + "1\t2\n" * 50 + "3", "line 52 has 1 field where"),
    ],
)
def test_ragged_tables_by_tabs_are_named_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    for name in ("log.tsv", "log.inter"):
        with pytest.raises(UserError, match=message):
            _read(tmp_path / name, content, ["a", "b"])


def test_column_names_in_quotes(tmp_path: Path) -> None:
    content = '"user"\t"a title"\r\n"1"\t"X"\r\n\r\n2\tY'
    assert _read(tmp_path / "a.tsv", content, ["user", "a title"]) == [
        {"user": "1", "a title": "X"},
        {"user": "2", "a title": "Y"},
    ]
    header = read_header(find_files(str(tmp_path / "a.tsv"), "k")[0])
    assert list(header.kinds) == ["user", "a title"]
    assert _read(tmp_path / "b.tsv", "user\ttitle", ["user"]) == []
    assert _read(tmp_path / "c.tsv", "\ufeffuser\ttitle\n1\t2\n", ["user"]) == [{"user": "1"}]


def test_quotes_that_open_nothing_are_text_in_csv(tmp_path: Path) -> None:
    rows = _read(tmp_path / "a.csv", 'user,title\n\na,5" disk\n\n\nb,"quoted"\n', ["user", "title"])
    assert rows == [{"user": "a", "title": '5" disk'}, {"user": "b", "title": "quoted"}]
