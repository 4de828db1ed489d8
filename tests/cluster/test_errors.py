import pickle

import pytest
import ray

from cluster.errors import UserError, user_error_in


def test_message_and_remedy_make_one_sentence_each() -> None:
    assert str(UserError("The log x is empty.", "Give a log with rows.")) == "The log x is empty. Give a log with rows."


def test_credentials_are_masked_wherever_the_fault_is_read() -> None:
    fault = UserError("s3://id:secret@b/x does not exist.", "Give s3://id:secret@b/y.")
    for copy in (fault, pickle.loads(pickle.dumps(fault)), user_error_in(fault)):
        assert "secret" not in repr(copy) + str(copy)
        assert str(copy) == "s3://***@b/x does not exist. Give s3://***@b/y."


def test_found_behind_a_chain_of_causes() -> None:
    fault = UserError("at fault")
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = fault
    assert user_error_in(wrapped) is fault


def test_nothing_found_in_other_errors() -> None:
    assert user_error_in(ValueError("no user error")) is None


def test_found_behind_a_remote_function(ray_local: None) -> None:
    @ray.remote
    def fail() -> None:
        raise UserError("The file f is truncated.", "Copy it again.")

    with pytest.raises(Exception, match="truncated") as caught:
        ray.get(fail.remote())
    found = user_error_in(caught.value)
    assert found is not None
    assert found.message == "The file f is truncated."
    assert found.remedy == "Copy it again."
