from __future__ import annotations

import pytest

from cluster.errors import UserError
from cluster.session import connect, is_embedded


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str) -> None:
    with pytest.raises(UserError, match=f"No Ray cluster answers at {address}"):
        connect(address, None, None)


def test_a_client_address_is_refused() -> None:
    with pytest.raises(UserError, match="Ray Client address") as caught:
        connect("ray://head:10001", None, None)
    assert "dealrec submit" in caught.value.remedy


def test_inside_a_job_its_cluster_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert is_embedded(None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not is_embedded(None)
    assert is_embedded("local")
