"""`import dealrec`: quick, whole, and not deceived by files of the user's that have the names of its packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dealrec
from cluster.project_root import PROJECT_ROOT

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
