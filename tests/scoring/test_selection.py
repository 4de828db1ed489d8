from __future__ import annotations

import pytest

from scoring.errors import SettingError
from scoring.selection import METHODS, SelectionParams, required_scores, select


def test_unknown_method_names_the_known_ones():
    with pytest.raises(SettingError, match="dealrec, random"):
        select(lambda: iter([]), SelectionParams(method="magic"))


def test_methods_state_what_they_need():
    assert required_scores("dealrec") == ("influence", "effort")
    assert not any(method.sees_validation for method in METHODS.values())
