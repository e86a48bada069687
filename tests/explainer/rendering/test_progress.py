"""Progress: lines at their interval where nothing can be redrawn, a bar in a terminal, one display for nested work."""

import io

import pytest
from rich.console import Console

from explainer.rendering import progress
from explainer.rendering.progress import Lines, Progress, can_redraw, duration, track


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def test_every_item_is_given_once_whatever_is_shown() -> None:
    for description in ("work", None):
        assert list(track(range(5), description)) == [0, 1, 2, 3, 4]
        assert list(track((i for i in range(3)), description)) == [0, 1, 2]


def test_a_line_every_half_minute_and_one_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(10), "scores"):
        clock.now += 20
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "scores: 20 %, about 2 min 40 s to go",
        "scores: 40 %, about 2 min 0 s to go",
        "scores: 60 %, about 1 min 20 s to go",
        "scores: 80 %, about 40 s to go",
        "scores: done in 3 min 20 s",
    ]


def test_short_work_and_unnamed_work_print_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(10), "short"):
        clock.now += 2
    for _ in track(range(10), None):
        clock.now += 60
    assert capsys.readouterr() == ("", "")


def test_broken_off_work_has_no_last_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        for _ in track(range(2), "work"):
            clock.now += 40
            if clock.now > 150:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert capsys.readouterr().err == "work: 50 %, about 40 s to go\n"
    with Progress("next", 1):  # nothing of it is left behind
        clock.now += 40
    assert capsys.readouterr().err == "next: done in 40 s\n"


def test_inner_work_is_a_share_of_the_outer_item(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(2), "outer"):
        for _ in track(range(4), "inner"):
            clock.now += 30
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == [
        f"outer: {share} %" for share in (12, 25, 38, 50, 62, 75, 88)
    ]
    assert lines[-1] == "outer: done in 4 min 0 s"


def test_an_unknown_total_is_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track((i for i in range(2)), "lines"):
        clock.now += 45
    assert capsys.readouterr().err.splitlines()[:2] == ["lines: 1 done in 45 s", "lines: 2 done in 1 min 30 s"]


def test_resumed_work_is_judged_by_its_own_pace(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines("training", 100, start=50)
    clock.now += 30
    lines.update(60, "loss 0.5")
    assert capsys.readouterr().err == "training: 60 %, about 2 min 0 s to go, loss 0.5\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    assert list(track(range(3), "scores")) == [0, 1, 2]
    assert "scores" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_a_file_that_is_to_be_coloured_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_redraw(Console(file=io.StringIO(), force_terminal=True))
    assert can_redraw(Console(file=Terminal(), force_terminal=True, force_interactive=True))


def test_durations_have_two_units_at_most() -> None:
    assert [duration(seconds) for seconds in (0, 59.4, 60, 3599, 3600, 90061)] == [
        "0 s",
        "59 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "25 h 1 min",
    ]
