from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from cluster.errors import UserError
from training.loops import native_op


def test_a_stale_mark_of_a_killed_build_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    mark = tmp_path / "some_op" / "lock"
    mark.parent.mkdir()
    mark.touch()
    seen = []
    native_op.build(lambda: seen.append(mark.exists()))
    assert seen == [False]


def _hold(folder: str) -> None:
    os.environ["TORCH_EXTENSIONS_DIR"] = folder
    native_op.build(lambda: time.sleep(60))


def test_a_killed_builder_gives_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    builder = multiprocessing.get_context("fork").Process(target=_hold, args=(str(tmp_path),))
    builder.start()
    while not _locked(tmp_path / "build.lock"):
        time.sleep(0.01)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    built = []
    native_op.build(lambda: built.append(True))
    assert built == [True]


def _locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_without_a_compiler_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"g\+\+") as caught:
        native_op.require_compiler()
    assert "apt-get install g++" in caught.value.remedy


def test_an_installation_without_a_compiler_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    native_op.build_ahead()
    assert "g++ is missing" in caplog.text


def test_another_processor_has_a_build_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = []
    for instructions in ("flags: avx2", "flags: avx2 avx512f", "flags: avx2"):
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
        monkeypatch.setattr(native_op, "_instructions", lambda found=instructions: found)
        native_op.build(lambda: folders.append(os.environ["TORCH_EXTENSIONS_DIR"]))
    assert folders[0] != folders[1]
    assert folders[0] == folders[2]
    assert all(Path(folder).is_relative_to(tmp_path) for folder in folders)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/dev/null/extensions")
    with pytest.raises(UserError, match="TORCH_EXTENSIONS_DIR is /dev/null/extensions") as caught:
        native_op.build(lambda: None)
    assert "remove it" in caught.value.remedy


@pytest.mark.parametrize("home", ["/dev/null/home", "~"])
def test_without_a_home_directory_the_temporary_one_serves(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that runs under any number has none: `~` then stays as it is."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(native_op, "_put_tools_on_path", lambda: None)
    native_op.build(lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == [f"cache-{os.getuid()}"]
    assert os.environ["TORCH_EXTENSIONS_DIR"].startswith(str(tmp_path))
