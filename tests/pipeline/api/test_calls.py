"""The frame around a call: what it restores, shows and raises."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings

import pytest

from cluster.errors import UserError
from cluster.late_calls import forbid_auto_start
from cluster.progress import LineProgress
from cluster.session import quiet_libraries
from pipeline.api.calls import api_call, by_command
from scoring.exceptions import SettingError


def work() -> None:
    """What a call does to a process, in small."""
    quiet_libraries()
    os.environ["DEALREC_TEST"] = "1"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.getLogger("dealrec.run").info("at work")
    logging.getLogger("dealrec.run").warning("a doubt")
    LineProgress("ingest").update(1, 1)


def test_the_process_is_left_as_it_was() -> None:
    logger = logging.getLogger("deepspeed")
    logger.setLevel(logging.INFO)
    handler = signal.getsignal(signal.SIGTERM)
    before = dict(os.environ), warnings.filters[:], logging.getLogger("dealrec").handlers[:]
    with api_call():
        work()
        assert logger.level == logging.ERROR
    assert (dict(os.environ), warnings.filters[:], logging.getLogger("dealrec").handlers[:]) == before
    assert logger.level == logging.INFO
    assert signal.getsignal(signal.SIGTERM) == handler


def test_hooks_of_the_host_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(fault: object) -> None:
        """The host's."""

    monkeypatch.setattr(sys, "unraisablehook", mine)
    monkeypatch.setattr(threading, "excepthook", mine)
    with api_call():
        forbid_auto_start()
        assert sys.unraisablehook is not mine
    assert (sys.unraisablehook, threading.excepthook) == (mine, mine)


def test_it_is_left_as_it_was_by_an_error_too() -> None:
    def fails() -> None:
        work()
        raise ZeroDivisionError

    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), api_call():
        fails()
    assert dict(os.environ) == before


def test_nothing_is_printed_unless_asked_for(plain_logging: None, capfd: pytest.CaptureFixture[str]) -> None:
    # pytest adds handlers of its own to each test's call.
    logging.getLogger().handlers[:] = []
    with api_call():
        work()
    assert capfd.readouterr() == ("", "")
    with api_call(progress=True):
        work()
    shown = capfd.readouterr()
    assert shown.out == ""
    assert [line.split()[0] for line in shown.err.splitlines()] == ["at", "a", "ingest"]
    with api_call(progress=False):
        work()
    assert capfd.readouterr() == ("", "")


def test_the_handlers_of_the_host_get_our_lines_and_no_others_are_added(
    plain_logging: None, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    class Host(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    root = logging.getLogger()
    root.addHandler(Host())
    with api_call(progress=True):
        work()
    assert lines == ["a doubt"]
    assert "a doubt" not in capfd.readouterr().err


def test_our_lines_show_no_credentials(plain_logging: None, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger().handlers[:] = []
    with api_call(progress=True):
        logging.getLogger("dealrec.run").info("Written to %s", "s3://id:secret@bucket/x")
    assert capfd.readouterr().err == "Written to s3://***@bucket/x\n"


def test_a_fault_of_the_users_is_told_in_the_words_of_the_api() -> None:
    with pytest.raises(UserError, match=r"^Choose another run_dir\.$"), api_call():
        raise UserError("Choose another --run-dir.")
    with pytest.raises(UserError, match="must be above 0"), api_call():
        raise SettingError("damping must be above 0")
    with pytest.raises(UserError, match=r"the fault\."), api_call():
        raise RuntimeError("wrapped") from UserError("the fault.")


def test_the_command_line_keeps_its_own_words_and_logging() -> None:
    with by_command(), pytest.raises(UserError, match="--run-dir"), api_call():
        raise UserError("Choose another --run-dir.")
    with by_command(), pytest.raises(SettingError), api_call():
        raise SettingError("x")


def test_another_thread_may_call() -> None:
    failed: list[BaseException] = []

    def call() -> None:
        try:
            with api_call(progress=True):
                logging.getLogger("dealrec.run").info("from a thread")
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert not failed
