import io

import pytest

from cluster.progress import LineProgress, ProgressGroup, format_fact, format_seconds


def test_a_log_gets_few_lines_and_the_last_one() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = LineProgress("effort", stream=stream, interval=10, clock=lambda: now[0])
    for done in range(1, 101):
        now[0] += 1
        progress.update(done, 100, rows=done * 10)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].split() == ["effort", "1/100", "shards", "rows", "10"]
    assert "left" in lines[1]
    assert lines[-1].startswith("effort     100/100 shards")


def test_what_counts_since_the_beginning_is_shown_as_a_rate() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = LineProgress("effort", stream=stream, interval=10, clock=lambda: now[0])
    progress.update(5, 25, rows=500, loss=2.0)
    now[0] = 20.0
    progress.update(9, 25, rows=900, loss=1.0)
    line = stream.getvalue().splitlines()[-1]
    # The work of an earlier run does not count towards this run's pace.
    assert "20 rows/s" in line
    assert "1 min 20 s left" in line
    assert "loss/s" not in line


def test_another_pass_of_the_stage_has_a_pace_of_its_own() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = LineProgress("evaluate", stream=stream, interval=1, clock=lambda: now[0])
    for done, total, time in ((0, 2, 0.0), (2, 2, 100.0), (0, 4, 110.0), (2, 4, 130.0)):
        now[0] = time
        progress.update(done, total, rows=done)
    assert "20 s left" in stream.getvalue().splitlines()[-1]


def test_all_who_watch_are_told() -> None:
    streams = io.StringIO(), io.StringIO()
    both = ProgressGroup(*(LineProgress("x", stream=stream) for stream in streams))
    both.update(1, 1)
    assert streams[0].getvalue() == streams[1].getvalue() != ""


def test_a_terminal_line_is_rewritten() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = LineProgress("select", stream=stream)
    progress.update(1, 1)
    progress.close()
    assert stream.getvalue().startswith("\r\x1b[2Kselect")
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (59, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_seconds_as_a_person_says_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_facts_are_short() -> None:
    assert format_fact(0.123456) == "0.1235"
    assert format_fact(1234567) == "1,234,567"
    assert format_fact("ok") == "ok"
