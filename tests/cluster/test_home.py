from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

import pytest

from cluster.home import ensure_home

_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")


def nobody(number: int) -> pwd.struct_passwd:
    raise KeyError(f"getpwuid(): uid not found: {number}")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # Set before it is removed, so that monkeypatch restores it.
    for name in (*_NAMES, "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def test_a_user_without_home_or_name_gets_both(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(RuntimeError):
        Path.home()
    ensure_home()
    assert Path.home().parent == temporary
    assert os.access(Path.home(), os.W_OK)
    assert Path.home().stat().st_mode & 0o77 == 0
    assert getpass.getuser() == str(os.getuid())
    assert "TRITON_CACHE_DIR" not in os.environ
    first = Path.home()
    ensure_home()
    assert Path.home() == first


def test_a_home_that_cannot_be_written_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null/home")
    ensure_home()
    assert os.environ["HOME"] == "/dev/null/home"
    assert os.environ["TRITON_CACHE_DIR"].startswith(str(temporary))


def test_an_ordinary_user_sees_no_change(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    monkeypatch.setenv("USER", "anna")
    before = dict(os.environ)
    ensure_home()
    assert dict(os.environ) == before
    assert list(temporary.iterdir()) == []
