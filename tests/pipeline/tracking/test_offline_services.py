"""Weights & Biases offline and Trackio's local database, read back as their own programs read them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import Storage
from tests.pipeline.tracking.staged_run import SECRET, TRAIN, follow, tracked_config

_HEADER, _BLOCK, _CHUNK = 7, 1 << 15, struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def records(file: Path) -> Iterator[Any]:
    """The records of an offline run: protocol buffers in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), _HEADER, b""
    while place + _CHUNK.size <= len(data):
        if _BLOCK - place % _BLOCK < _CHUNK.size:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = _CHUNK.unpack_from(data, place)
        chunk = data[place + _CHUNK.size : place + _CHUNK.size + length]
        place += _CHUNK.size + length
        parts = chunk if kind in (_FULL, _FIRST) else parts + chunk
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)


def history(folder: Path) -> list[dict[str, Any]]:
    """Every logged row of the offline runs below a folder."""
    rows = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in records(file):
            if record.HasField("history"):
                items = record.history.item
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def test_offline_runs_of_one_id_hold_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    config, run = tracked_config("wandb"), Storage.at(tmp_path / "run")
    # These services start slowly on a busy machine.
    follow(config, run, 2, patience=600.0)
    follow(config, run, patience=600.0)

    files = sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    identity = run.read_json("tracking/wandb.json")["identity"]
    assert {file.stem for file in files} == {f"run-{identity}"}
    rows = history(tmp_path)
    losses = [(row["finetune/step"], row["finetune/train_loss"]) for row in rows if "finetune/train_loss" in row]
    assert losses == list(enumerate(TRAIN, start=1))
    assert [row["surrogate/loss"] for row in rows if "surrogate/loss" in row] == [8.0, 7.0]
    (kept,) = tmp_path.glob("wandb/offline-run-*/files/selection.json")
    assert json.loads(kept.read_text(encoding="utf-8")) == {"chosen": 24}
    everything = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"select.size" in everything
    assert b"f" * 40 not in everything
    assert b"s3://***@bucket/log" in everything
    assert f"user:{SECRET}".encode() not in everything


_LOGIN = """
from pipeline.tracking.wandb_tracker import require_wandb_login
require_wandb_login()
"""


@pytest.mark.parametrize(
    ("setting", "refused"),
    [({}, True), ({"WANDB_MODE": "offline"}, False), ({"WANDB_API_KEY": "f" * 40}, False)],
)
def test_without_a_key_wandb_is_refused_before_the_run(tmp_path: Path, setting: dict[str, str], refused: bool) -> None:
    """In processes of their own, for the library keeps the key that it has found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        [sys.executable, "-c", _LOGIN],
        env={**kept, "NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path), **setting},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("WANDB_MODE=offline" in done.stderr) is refused
    assert (done.returncode != 0) is refused


_TRACKIO = """
import json, sys
from cluster.storage import Storage
from tests.pipeline.tracking.staged_run import follow, tracked_config
config, run = tracked_config("trackio"), Storage.at(sys.argv[1])
follow(config, run, 2)
follow(config, run)
from trackio.sqlite_storage import SQLiteStorage
(name,) = SQLiteStorage.get_runs("dealrec")
answer = {"logs": SQLiteStorage.get_logs("dealrec", name), "config": SQLiteStorage.get_run_config("dealrec", name)}
print(json.dumps(answer, default=str))
"""


def test_trackio_has_one_run_with_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, for the library reads its folder when it is imported."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    command = [sys.executable, "-c", _TRACKIO, str(tmp_path / "run")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    # Standard output has the answer alone: what the library prints goes elsewhere.
    answer = json.loads(done.stdout)
    losses = [(row["step"], row["finetune/train_loss"]) for row in answer["logs"] if "finetune/train_loss" in row]
    assert losses == list(enumerate(TRAIN, start=1))
    assert answer["config"]["data.interactions"] == "s3://***@bucket/log"
    assert any((tmp_path / "trackio" / "artifacts").rglob("*"))
