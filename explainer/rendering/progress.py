"""Progress of long work: a bar in a terminal, a line every half minute in a file or a CI log, where nothing is redrawn.

Everything is written to stderr, so that stdout holds the results alone.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress as RichProgress

Item = TypeVar("Item")

INTERVAL = 30.0
"""Seconds between two lines; shorter work prints none."""

_thread = threading.local()


def track(items: Iterable[Item], description: str | None, total: int | None = None) -> Iterator[Item]:
    """The items, one after the other, with the progress through them shown.

    Args:
        description: of the work; nothing is shown when it is None.
        total: the number of items; by default their length, where they have one.
    """
    if description is None:
        yield from items
        return
    with Progress(description, len(items) if total is None and isinstance(items, Sized) else total) as progress:
        for item in items:
            yield item
            progress.advance()


class Progress:
    """Shows how far a piece of work is, inside a `with` block.

    Work that starts while other work of the same thread is shown counts as a share of that work's current item, so that
    there is one bar, or one kind of line, at a time.

    Args:
        description: of the work.
        total: the number of its items; None where that is not known.
    """

    def __init__(self, description: str, total: int | float | None = None) -> None:
        self._description, self._total, self._finished = description, total, 0.0

    def __enter__(self) -> "Progress":
        self._outer: Progress | None = getattr(_thread, "progress", None)
        self._display = None if self._outer else _display(self._description, self._total)
        _thread.progress = self
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        _thread.progress = self._outer
        if self._display is not None:
            self._display.close(complete=kind is None)

    def advance(self, items: int | float = 1) -> None:
        """Count items as finished."""
        self._finished += items
        self._show(self._finished)

    def _show(self, position: int | float) -> None:
        if self._display is not None:
            self._display.update(position)
        elif self._outer is not None and self._total:
            self._outer._show(self._outer._finished + min(position / self._total, 1.0))


class Lines:
    """Progress as lines of text: one every `INTERVAL` seconds, and one at the end of work that took longer than that.

    Args:
        description: of the work.
        total: the number of its items; None where that is not known.
        start: the number of items that an earlier run has finished.
    """

    def __init__(self, description: str, total: int | float | None = None, start: int | float = 0.0) -> None:
        self.description, self._total, self._start = description, total, start
        self._begun = self._written = time.monotonic()

    def update(self, position: int | float, note: str = "") -> None:
        """Write a line if it is time for one.

        Args:
            position: the number of finished items; a fraction counts a part of the current one.
            note: added at the end of the line.
        """
        now = time.monotonic()
        if now - self._written >= INTERVAL and position != self._total:
            self._written = now
            self._write(self._state(position, now - self._begun) + (f", {note}" if note else ""))

    def close(self, complete: bool = True) -> None:
        """Write the last line, unless the work was short or broke off."""
        seconds = time.monotonic() - self._begun
        if complete and seconds >= INTERVAL:
            self._write(f"done in {duration(seconds)}")

    def _state(self, position: int | float, seconds: float) -> str:
        if not self._total:
            return f"{position:,.0f} done in {duration(seconds)}"
        state = f"{100 * position / self._total:.0f} %"
        if position > self._start:
            remaining = seconds / (position - self._start) * (self._total - position)
            state += f", about {duration(remaining)} to go"
        return state

    def _write(self, state: str) -> None:
        print(f"{self.description}: {state}", file=sys.stderr, flush=True)


class _Bar:
    """Progress as a bar that is redrawn in place."""

    def __init__(self, console: Console, description: str, total: int | float | None) -> None:
        self._bar = RichProgress(console=console)
        self._task = self._bar.add_task(description, total=total)
        self._bar.start()

    def update(self, position: int | float) -> None:
        self._bar.update(self._task, completed=position)

    def close(self, complete: bool = True) -> None:
        self._bar.stop()


def _display(description: str, total: int | float | None) -> "_Bar | Lines":
    console = Console(stderr=True)
    return _Bar(console, description, total) if can_redraw(console) else Lines(description, total)


def can_redraw(console: Console) -> bool:
    """Whether a bar can be redrawn in place: in a terminal or a notebook.

    A CI system may ask for colours (FORCE_COLOR), which rich takes for a terminal; the file itself knows better.
    """
    return console.is_jupyter or (console.is_interactive and console.file.isatty())


def duration(seconds: int | float) -> str:
    """A length of time in at most two units.

    >>> duration(7.6), duration(100), duration(7500)
    ('8 s', '1 min 40 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
