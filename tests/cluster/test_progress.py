import io

import pytest

from cluster.progress import LineProgress, format_fact, format_seconds


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
