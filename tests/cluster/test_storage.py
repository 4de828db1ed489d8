from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import UserError
from cluster.storage import Storage, is_remote, open_filesystem


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path)


def test_write_then_read(store: Storage) -> None:
    store.write_text("a/b/c.txt", "Toy Story – 玩具总动员")
    assert store.read_text("a/b/c.txt") == "Toy Story – 玩具总动员"
    assert store.child("a", "b").read_text("c.txt") == "Toy Story – 玩具总动员"
    assert store.size("a/b/c.txt") == len("Toy Story – 玩具总动员".encode())


def test_json_round_trip(store: Storage) -> None:
    value = {"b": [1, 2.5, None], "a": {"é": True}}
    store.write_json("x.json", value)
    assert store.read_json("x.json") == value


def test_table_bytes_do_not_depend_on_chunks(store: Storage) -> None:
    whole = pa.table({"x": pa.array(range(10), pa.int64()), "l": pa.array([[i] for i in range(10)])})
    store.write_table("one.parquet", whole)
    store.write_table("two.parquet", pa.concat_tables([whole.slice(0, 3), whole.slice(3)]))
    assert store.read_bytes("one.parquet") == store.read_bytes("two.parquet")
    assert store.read_table("one.parquet", ["x"]).column_names == ["x"]


def test_a_failed_write_leaves_what_was_there(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_text("x.txt", "old")

    def broken(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        store.write_text("x.txt", "new")
    monkeypatch.undo()
    assert store.read_text("x.txt") == "old"
    assert store.list() == ["x.txt"]


def test_list_is_sorted_and_shows_files_only(store: Storage) -> None:
    for name in ("b.txt", "a.txt", "c.json", "sub/d.txt", ".e.txt.1-2.tmp"):
        store.write_text(name, "")
    assert store.list() == ["a.txt", "b.txt", "c.json"]
    assert store.list(suffix=".txt") == ["a.txt", "b.txt"]
    assert store.list("nowhere") == []


def test_delete_files_and_trees(store: Storage) -> None:
    store.write_text("a/b.txt", "")
    store.delete("a/b.txt")
    store.delete("a/b.txt")
    assert not store.exists("a/b.txt")
    store.write_text("a/b/c.txt", "")
    store.delete("a")
    assert not store.exists("a")


def test_upload_copies_a_folder(store: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "x.bin").write_bytes(b"\x00\x01")
    store.upload_dir(source, "copy")
    with store.local_dir("copy") as folder:
        assert (folder / "deep" / "x.bin").read_bytes() == b"\x00\x01"


def test_an_object_store_is_addressed_through_its_filesystem() -> None:
    remote = Storage.at("mock://bucket/run/")
    assert is_remote(remote.uri)
    assert remote.uri == "mock://bucket/run"


def test_the_settings_of_a_store_stay_at_the_end() -> None:
    child = Storage.at("s3://bucket/run/?region=eu-west-1&scheme=http").child("data", "samples")
    assert child.uri == "s3://bucket/run/data/samples?region=eu-west-1&scheme=http"
    assert child.fs_path("part.parquet")[1] == "bucket/run/data/samples/part.parquet"


def test_an_unknown_scheme_is_the_users_fault() -> None:
    with pytest.raises(UserError, match="nosuch://x"):
        open_filesystem("nosuch://x")
