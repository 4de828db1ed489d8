from hashlib import blake2b

import pytest

from cluster.digest import digest, json_digest


def test_the_order_of_keys_does_not_matter() -> None:
    assert json_digest({"a": 1, "b": [2]}) == json_digest({"b": [2], "a": 1})
    assert json_digest({"a": 1}) != json_digest({"a": 2})


def test_it_is_that_of_the_canonical_text() -> None:
    assert json_digest({"title": "西"}) == digest('{"title": "西"}'.encode())
    assert digest(b"x") == blake2b(b"x", digest_size=16).hexdigest()


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError):
        json_digest({"a": object()})
