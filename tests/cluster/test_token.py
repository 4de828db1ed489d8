from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster.token import own_token
from tests.ray_cluster import ROOT, environment

_USERS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "users", "RAY_AUTH_TOKEN_PATH": "/nowhere/token"}


def tokens() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH_")}


@pytest.mark.parametrize("before", [{}, _USERS])
def test_the_users_token_is_put_aside_and_comes_back(before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _USERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    # Ray's own cache belongs to the session that the other tests share.
    monkeypatch.setattr("cluster.token.forget_token", lambda: None)
    given = []
    for _ in range(2):
        with own_token():
            given.append(tokens())
        assert tokens() == before
    assert all(set(found) == {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} for found in given)
    assert all(found["RAY_AUTH_MODE"] == "token" for found in given)
    assert len({found["RAY_AUTH_TOKEN"] for found in given} | {"users"}) == 3


def test_who_wants_no_token_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr("cluster.token.forget_token", lambda: None)
    before = tokens()
    with own_token():
        assert tokens() == before


def test_workers_have_the_token_and_this_process_shows_none(ray_local: None) -> None:
    @ray.remote
    def inherited() -> tuple[str | None, str]:
        shell = subprocess.run(["sh", "-c", "echo $RAY_AUTH_TOKEN"], capture_output=True, text=True, check=True)
        return os.environ.get("RAY_AUTH_TOKEN"), shell.stdout.strip()

    own, of_subprocess = ray.get(inherited.remote())
    assert own is not None
    assert own == of_subprocess
    assert os.environ.get("RAY_AUTH_TOKEN") != own


_SESSIONS = """
import os, sys
import ray
from cluster.session import ray_session

for os.environ["HOME"] in sys.argv[1:]:
    with ray_session("local", cpus=1):
        print(ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote()))
"""


def test_the_home_directory_is_left_alone(tmp_path: Path) -> None:
    """A container's home often is not writable, and a user's may contain the token of a cluster."""
    kept = tmp_path / ".ray" / "auth_token"
    kept.parent.mkdir()
    kept.write_text("a cluster's")
    settings = environment() | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    del settings["RAY_AUTH_MODE"]
    command = [sys.executable, "-c", _SESSIONS, "/dev/null/home", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert [len(token) for token in set(ended.stdout.split())] == [64, 64]
    assert [path.name for path in kept.parent.iterdir()] == ["auth_token"]
    assert kept.read_text() == "a cluster's"
