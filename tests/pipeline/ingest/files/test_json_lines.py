"""JSON Lines, read in small blocks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import UserError
from pipeline.ingest.files import json_lines
from pipeline.ingest.files.headers import read_headers
from pipeline.ingest.files.sources import find_files


def _read(
    path: Path, content: str | bytes, columns: list[str], block: int = json_lines.BLOCK_BYTES
) -> list[dict[str, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return _read_file(path, columns, block)


def _read_file(path: Path, columns: list[str], block: int = json_lines.BLOCK_BYTES) -> list[dict[str, object]]:
    file = find_files(str(path), "data.interactions")[0]
    return [row for table, _ in json_lines.read_jsonl(file, columns, block) for row in table.to_pylist()]


@pytest.mark.parametrize("block", [40, 1 << 20])
def test_jsonl_reads_what_is_asked(tmp_path: Path, block: int) -> None:
    rows = [{"user": number, "t": number / 2, "extra": {"deep": [number]}} for number in range(20)]
    content = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    assert _read(tmp_path / "a.jsonl", content, ["user", "t"], block) == [
        {"user": r["user"], "t": r["t"]} for r in rows
    ]


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
def test_broken_jsonl_is_named_by_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _read(tmp_path / "log.jsonl", '{"user": "a"}\n' * 200 + line, ["user"], block=100)


def test_python_dicts_are_read_and_nothing_is_run(tmp_path: Path) -> None:
    lines = [
        "{'user': 'a', 'title': \"It's\", 'also': {'x': [1, None, True]}}",
        "{u'user': u'caf\\xe9', u'title': None}",
        '{"user": "c", "title": "plain JSON"}',
        "{'user': 7, 'title': 'Quoted \\'x\\''}",
    ]
    rows = _read(tmp_path / "a.jsonl", "\n".join(lines) + "\n", ["user", "title"])
    assert rows == [
        {"user": "a", "title": "It's"},
        {"user": "café", "title": None},
        {"user": "c", "title": "plain JSON"},
        {"user": "7", "title": "Quoted 'x'"},
    ]
    marker = tmp_path / "marker"
    with pytest.raises(UserError, match="line 1 is a Python dict that is broken or holds more than plain values"):
        _read(tmp_path / "b.jsonl", f"{{'user': open({str(marker)!r}, 'w')}}\n", ["user"])
    assert not marker.exists()
    with pytest.raises(UserError, match="line 1, column 'user' holds"):
        _read(tmp_path / "c.jsonl", "{'user': {1, 2}}\n", ["user"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"user": 1}, {"user": 2}]', r"a\.json is one JSON array\. .*json\.load\(sys\.stdin\)"),
        ('[\n{"user": 1},\n{"user": 2}\n]', r"a\.json is one JSON array over several lines\. .*json\.load"),
        ('{\n  "user": 1\n}\n{\n  "user": 2\n}\n', r"a\.json, line 1 ends inside an object\. .*jq -c"),
        ('{"user": 1}{"user": 2}\n', r"a\.json, line 1 holds more than one JSON value\. .*jq -c"),
        (
            '{"user": {"0": 1, "1": 2}, "item": {"0": 3, "1": 4}}',
            r"one JSON object that holds whole columns.*orient",
        ),
        ("{'user': nan}\n", "line 1 is a Python dict that is broken or holds more than plain values.*as JSON"),
        ('{"user": 1}\n{"user": 2', r"a\.json, line 2 is not valid JSON .*truncated"),
        ('"user"\n', "line 1 is not a JSON object"),
    ],
)
def test_other_forms_of_json_are_told_apart(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_headers(find_files(str(tmp_path / "a.json"), "k"))


def test_the_remedy_for_an_array_works(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"user": "é"},\n {"user": 2}]')
    with pytest.raises(UserError) as caught:
        read_headers(find_files(str(tmp_path / "a.json"), "k"))
    command = caught.value.remedy.removeprefix("Write one object per line: ").removesuffix(".")
    subprocess.run(
        command.replace("FILE", "a.json").replace("python", sys.executable), shell=True, cwd=tmp_path, check=True
    )
    assert _read_file(tmp_path / "log.jsonl", ["user"]) == [{"user": "é"}, {"user": "2"}]
