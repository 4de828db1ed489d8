from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import UserError
from cluster.project_root import PROJECT_ROOT, checkout_at, shadowing_file
from cluster.session import ray_session


def test_what_workers_would_import_instead_is_found(tmp_path: Path) -> None:
    assert shadowing_file([str(tmp_path), str(PROJECT_ROOT)]) is None
    # A folder of data is no package.
    (tmp_path / "training").mkdir()
    assert shadowing_file([str(tmp_path)]) is None
    (tmp_path / "cluster.py").write_text("")
    assert shadowing_file([str(tmp_path)]) == str(tmp_path / "cluster.py")


def test_no_session_begins_where_workers_would_import_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scoring").mkdir()
    (tmp_path / "scoring" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"scoring/__init__\.py has the name"), ray_session("local"):
        pytest.fail("it began")


def test_a_stray_pyproject_beside_installed_packages_is_no_checkout(tmp_path: Path) -> None:
    assert checkout_at(PROJECT_ROOT) == PROJECT_ROOT
    assert checkout_at(tmp_path) is None
    for text in ('[project]\nname = "other"\n', "not toml at all [", "[tool.x]\n"):
        (tmp_path / "pyproject.toml").write_text(text)
        assert checkout_at(tmp_path) is None
