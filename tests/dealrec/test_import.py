"""`import dealrec`: quick, whole, and not deceived by files of the user's that have the names of its packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dealrec
from cluster.project_root import PROJECT_ROOT, checkout_at, shadowing_file

HEAVY = ("torch", "ray", "transformers", "peft", "deepspeed", "pyarrow", "pandas", "numpy", "scipy", "pydantic")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_import_loads_nothing_heavy(tmp_path: Path) -> None:
    done = python(f"import dealrec, sys; print([m for m in {HEAVY} if m in sys.modules])", tmp_path)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_name_is_there() -> None:
    for name in dealrec.__all__:
        assert getattr(dealrec, name) is not None
        assert name in dir(dealrec)
    with pytest.raises(AttributeError, match="no_such"):
        _ = dealrec.no_such
    assert all(getattr(dealrec, name).__doc__ for name in dealrec.__all__ if not name.startswith("_"))


@pytest.mark.parametrize("name", ["pipeline.py", "cluster.py", "training/__init__.py", "scoring/__init__.py"])
def test_a_file_that_hides_a_package_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("value = 1\n")
    done = python("import dealrec", tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: dealrec cannot be used beside ")
    assert str(tmp_path / name.split("/")[0]) in last
    assert "Rename" in last


def test_a_module_of_that_name_that_was_imported_before_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text("")
    done = python("import training, sys; sys.path.remove(''); import dealrec", tmp_path)
    assert str(tmp_path / "training.py") in done.stderr.splitlines()[-1]


def test_folders_of_data_and_other_files_do_no_harm(tmp_path: Path) -> None:
    for folder in ("training", "pipeline"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log.csv").write_text("")
    (tmp_path / "clusters.py").write_text("")
    done = python("import dealrec; print(dealrec.run.__name__)", tmp_path)
    assert done.stdout.strip() == "run", done.stderr


def test_what_workers_would_import_instead_is_found(tmp_path: Path) -> None:
    assert shadowing_file([str(tmp_path), str(PROJECT_ROOT)]) is None
    (tmp_path / "training").mkdir()
    assert shadowing_file([str(tmp_path)]) is None
    (tmp_path / "cluster.py").write_text("")
    assert shadowing_file([str(tmp_path)]) == str(tmp_path / "cluster.py")


def test_a_stray_pyproject_beside_installed_packages_is_no_checkout(tmp_path: Path) -> None:
    assert checkout_at(PROJECT_ROOT) == PROJECT_ROOT
    assert checkout_at(tmp_path) is None
    for text in ('[project]\nname = "other"\n', "not toml at all [", "[tool.x]\n"):
        (tmp_path / "pyproject.toml").write_text(text)
        assert checkout_at(tmp_path) is None
