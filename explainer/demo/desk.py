"""The desk of the demo: forms to pages, one at a time, and every error as a page that says what is wrong."""

import sys
import traceback
import warnings
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

from explainer.demo.base import AbstractDemo
from explainer.demo.fields import Fields
from explainer.demo.page import demo_page

WAITING = 16
"""The most forms that wait for their turn."""


class Reply(NamedTuple):
    """A page, and its HTTP status."""

    status: int
    html: str


class Desk:
    """Answers the forms of a demo; threads may share it."""

    def __init__(self, demo: AbstractDemo[Any]) -> None:
        self.demo = demo
        self._turn, self._places = Lock(), BoundedSemaphore(WAITING)

    def first(self) -> Reply:
        """The empty form."""
        return Reply(200, demo_page(self.demo, Fields()))

    def answer(self, body: bytes) -> Reply:
        """The page that answers a form.

        Args:
            body: of the request.
        """
        try:
            fields = Fields.of(body)
        except ValueError as error:
            return self._refused(400, Fields(), str(error))
        if not self._places.acquire(blocking=False):
            return self._refused(503, fields, f"{WAITING} others are waiting for an answer: try again soon.")
        try:
            return self._answered(fields)
        finally:
            self._places.release()

    def _answered(self, fields: Fields) -> Reply:
        # Warnings are caught for the whole process, so that one form at a time must be at work.
        with self._turn, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                result = self.demo.answer(fields)
            except (ValueError, TypeError, ImportError) as error:
                return self._refused(422, fields, str(error))
            except Exception as error:  # the other visitors go on
                traceback.print_exc(file=sys.stderr)
                kind = type(error).__name__
                return self._refused(500, fields, f"The model failed, the terminal says where. {kind}: {error}")
        notices = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        named = [notice.replace("Text 0", "The text") for notice in dict.fromkeys(notices)]
        return Reply(200, demo_page(self.demo, fields, result, notices=named))

    def _refused(self, status: int, fields: Fields, reason: str) -> Reply:
        return Reply(status, demo_page(self.demo, fields, error=reason))
