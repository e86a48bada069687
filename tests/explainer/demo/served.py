"""A demo of a tiny model on a free port of this machine, and a visitor without a browser."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Thread
from typing import Any
from urllib.parse import urlencode

from explainer.attributor import Attributor
from explainer.demo import AbstractDemo, DemoServer, Desk, Limits, ResponseDemo, TextDemo
from tests.explainer.explained.test_responses import model as language_model
from tests.families import explained

LIMITS = Limits(new_tokens=4)
FORM = "application/x-www-form-urlencoded"


@contextmanager
def served(demo: AbstractDemo, host: str = "127.0.0.1", **options: Any) -> Iterator[DemoServer]:
    """The server of a demo, for the time of a `with` block."""
    with DemoServer(host, 0, **options) as server:
        server.listen(Desk(demo))
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def request(
    server: DemoServer, verb: str = "GET", path: str = "/", body: Any = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, page and headers of an answer; underscores in the names of headers are dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(verb, path, body, named)
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.getheaders())
    finally:
        connection.close()


def sent(server: DemoServer, fields: Any, **headers: str) -> tuple[int, str]:
    """Status and page of the answer to a form.

    Args:
        fields: a mapping, or (name, value) pairs where names are there several times.
    """
    status, page, _ = request(server, "POST", "/", urlencode(fields), **{"Content_Type": FORM, **headers})
    return status, page


@cache
def text_demo(family: str = "bert", method: str = "attn_lrp", limits: Limits = LIMITS, **task: Any) -> TextDemo:
    """The demo of a tiny classifier, with two methods beside its own."""
    model = explained(family, **task)
    others = {name: Attributor.of(model, name) for name in ("random", "leave_one_out", "greedy_deletion")}
    return TextDemo(Attributor.of(model, method), others, limits)


@cache
def response_demo(family: str = "qwen2", method: str = "attn_lrp", limits: Limits = LIMITS) -> ResponseDemo:
    """The demo of a tiny language model."""
    model: Any = language_model(family)
    return ResponseDemo(Attributor.of(model, method), {"random": Attributor.of(model, "random")}, limits)  # type: ignore[arg-type]
