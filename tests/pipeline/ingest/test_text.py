"""Readers of text, in small blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.ingest import text
from pipeline.ingest.sources import find_files


def _read(path: Path, content: str | bytes, columns: list[str]) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = find_files(str(path), "data.interactions")[0]
    reader = text.read_jsonl if path.suffix == ".jsonl" else text.read_delimited
    return [row for table, _ in reader(file, columns) for row in table.to_pylist()]


def test_nothing_is_inferred_in_csv(tmp_path: Path) -> None:
    rows = _read(tmp_path / "a.csv", 'x,user\r\n1,007\r\n"a\nb, c",NA\r\n\r\n,\r\n', ["user", "x"])
    assert rows == [{"user": "007", "x": "1"}, {"user": "NA", "x": "a\nb, c"}, {"user": None, "x": None}]


def test_a_header_without_a_line_end_has_no_rows(tmp_path: Path) -> None:
    assert _read(tmp_path / "a.csv", "user,x", ["user"]) == []


def test_csv_comes_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    (tmp_path / "a.csv").write_text("user\n" + "".join(f"u{number}\n" for number in range(200)))
    blocks = list(text.read_delimited(find_files(str(tmp_path), "k")[0], ["user"]))
    assert len(blocks) > 5
    assert [table["user"][0].as_py() for table, _ in blocks] == [f"u{first - 1}" for _, first in blocks]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3\n4,5\n", "line 3 has 1 fields where the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields where the header has 2"),
        ("a,b\n" + "1,2\n" * 50 + "3", "line 52 has 1 fields"),
        (b"a,b\n1,2\n\xff,1\n", "not UTF-8"),
        ("a,b\n1,2\n" + '"' + "3,4\n" * 30_000, "cannot be read|fields where"),
    ],
)
def test_broken_csv_is_named_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _read(tmp_path / "log.csv", content, ["a", "b"])
    assert "log.csv" in caught.value.message


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("log.csv", {100: '"Heroes'}, "row after line 101 cannot be read"),
        ("log.csv", {100: '"Heroes', 103: '"Villains'}, "row after line 101 cannot be read"),
        ("log.tsv", {100: '"Heroes'}, "cannot be read"),
        ("log.tsv", {100: '"Heroes', 200: '"Villains"'}, "a quote is open from line 102 to line 202|cannot be read"),
        ("log.inter", {100: '"Heroes', 200: 'Villains"'}, "a quote is open from line 102|cannot be read"),
    ],
)
def test_a_quote_left_open_swallows_no_rows(tmp_path: Path, name: str, rows: dict[int, str], message: str) -> None:
    separator = "," if name.endswith("csv") else "\t"
    lines = [separator.join(("user", "title")), *(f"u{i}{separator}{rows.get(i, 'A')}" for i in range(400))]
    with pytest.raises(UserError, match=message):
        _read(tmp_path / name, "\n".join(lines) + "\n", ["user", "title"])


@pytest.mark.parametrize("name", ["log.csv", "log.tsv"])
def test_quotes_that_open_nothing_are_text(tmp_path: Path, name: str) -> None:
    separator = "," if name.endswith("csv") else "\t"
    content = f'user{separator}title\n\na{separator}5" disk\n\n\nb{separator}"quoted"\n'
    rows = _read(tmp_path / name, content, ["user", "title"])
    assert rows == [{"user": "a", "title": '5" disk'}, {"user": "b", "title": "quoted"}]


@pytest.mark.parametrize("block", [40, 1 << 20])
def test_jsonl_reads_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", block)
    rows = [{"user": number, "t": number / 2, "extra": {"deep": [number]}} for number in range(20)]
    content = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    assert _read(tmp_path / "a.jsonl", content, ["user", "t"]) == [{"user": r["user"], "t": r["t"]} for r in rows]


def test_jsonl_of_mixed_types_becomes_text(tmp_path: Path) -> None:
    lines = [{"user": 1}, {"user": "b"}, {"user": None}, {}, {"user": 2.0}, {"user": 2**60}]
    rows = _read(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines), ["user"])
    assert [row["user"] for row in rows] == ["1", "b", None, None, "2", str(2**60)]


def test_large_integers_survive_jsonl(tmp_path: Path) -> None:
    rows = _read(tmp_path / "a.jsonl", f'{{"user": {2**60 + 1}}}\n', ["user"])
    assert rows == [{"user": 2**60 + 1}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user": 1', r"line 201 is not valid JSON.*truncated"),
        ("[1, 2]", "line 201 is not a JSON object"),
        ('{"user": true}', "line 201, column 'user' holds true"),
        ('{"user": [1]}', "line 201, column 'user' holds"),
    ],
)
def test_broken_jsonl_is_named_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, message: str
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 100)
    with pytest.raises(UserError, match=message):
        _read(tmp_path / "log.jsonl", '{"user": "a"}\n' * 200 + line, ["user"])
