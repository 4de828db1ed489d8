from __future__ import annotations

import logging
import warnings

import pytest

from pipeline.api.quiet_imports import quiet_imports


def test_remarks_of_libraries_are_dropped_and_faults_are_not(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a.library")
    before = logging.root.manager.disable
    with warnings.catch_warnings(record=True) as warned, quiet_imports():
        logger.setLevel(logging.INFO)
        logger.info("install widgets")
        logger.error("broken")
        warnings.warn("no widgets", stacklevel=1)
    assert [record.getMessage() for record in caplog.records] == ["broken"]
    assert warned == []
    assert logging.root.manager.disable == before
