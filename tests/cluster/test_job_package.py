from __future__ import annotations

from pathlib import Path

import pytest

from cluster.job_package import job_package
from cluster.project_root import PACKAGES


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """Our packages among others."""
    for name in (*PACKAGES, "torch"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "file.j2").write_text(name)
        (tmp_path / name / "__pycache__").mkdir()
    return tmp_path


def test_an_installation_ships_a_copy_of_its_own_packages(site_packages: Path) -> None:
    with job_package(site_packages, None) as folder:
        assert {path.name for path in folder.iterdir()} == set(PACKAGES)
        assert (folder / "pipeline" / "inner" / "file.j2").read_text() == "pipeline"
        assert not list(folder.rglob("__pycache__"))
    assert not folder.exists()


def test_a_checkout_is_shipped_as_it_is(site_packages: Path) -> None:
    with job_package(site_packages, site_packages) as folder:
        assert folder == site_packages
    assert folder.exists()
