from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from cluster.shards import begin_shard, finish_shard
from cluster.stop_mark import ShardsInHand, new_stop_mark, stop_mark, stop_requested
from cluster.stopping import STOP, Stopped
from cluster.storage import Storage
from tests.cluster.test_shards import TABLE


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_the_signal_stops_at_once_where_nothing_is_deferred() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped), STOP.handled():
        terminate()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_that_comes_of_the_signal_is_a_stop() -> None:
    """Ray's blocking calls replace our exception in this way; a keyboard interrupt is left unchanged."""

    def interrupt(requested: bool) -> None:
        STOP.requested = requested
        raise KeyboardInterrupt

    with pytest.raises(Stopped), STOP.handled():
        interrupt(requested=True)
    with pytest.raises(KeyboardInterrupt) as caught, STOP.handled():
        interrupt(requested=False)
    assert not isinstance(caught.value, Stopped)


def test_what_defers_it_is_finished_first() -> None:
    with STOP.handled():
        with STOP.deferred() as told:
            terminate()
            assert told.is_set()
        with pytest.raises(Stopped):
            STOP.check()


def test_a_second_signal_does_not_wait() -> None:
    with STOP.handled(), STOP.deferred():
        terminate()
        with pytest.raises(Stopped):
            terminate()


def test_a_request_is_forgotten_with_its_session() -> None:
    with pytest.raises(Stopped), STOP.handled():
        terminate()
    with STOP.handled():
        STOP.check()


def test_another_thread_may_have_the_main_one_leave() -> None:
    """It reaches blocks that defer a request to stop, and is not such a request itself."""

    def wait() -> None:
        threading.Thread(target=STOP.interrupt_main).start()
        threading.Event().wait(60)

    with STOP.handled(), STOP.deferred() as told:
        with pytest.raises(KeyboardInterrupt) as caught:
            wait()
        assert not isinstance(caught.value, Stopped)
        assert not told.is_set()
        STOP.check()
    assert not STOP.interrupt_main()


def test_workers_see_the_mark_until_the_next_pass(tmp_path: Path) -> None:
    """Workers may take a queued call after the driver has left the pass."""
    out = Storage.at(tmp_path)
    with STOP.handled():
        first = new_stop_mark(out)
        with stop_mark(out, first):
            assert not stop_requested(out, first)
            terminate()
            while not stop_requested(out, first):
                pass
        assert stop_requested(out, first)
    second = new_stop_mark(out)
    # Storage may keep listing the earlier mark for a while after its deletion.
    out.write_bytes(first, b"")
    assert not stop_requested(out, second)
    with stop_mark(out, second):
        pass
    assert not stop_requested(out, second)


def test_a_shard_that_takes_longer_than_a_pod_may_is_left(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)

    def stay(_: object) -> None:
        terminate()
        threading.Event().wait()

    with STOP.handled(), stop_mark(out, new_stop_mark(out), patience=0.2) as deferred, pytest.raises(Stopped):
        stay(deferred)


def test_what_an_earlier_run_left_begun_is_in_nobodys_hand(tmp_path: Path) -> None:
    out = Storage.at(tmp_path)
    begin_shard(out, 0)
    begin_shard(out, 1)
    in_hand = ShardsInHand(out, [0, 1, 2])
    assert in_hand.now() == set()
    again = begin_shard(out, 1)
    first = begin_shard(out, 2)
    assert in_hand.now() == {1, 2}
    finish_shard(out, 2, TABLE, first, {})
    finish_shard(out, 1, TABLE, again, {})
    in_hand.wait()
    assert in_hand.now() == set()
