"""The server of the demo, of the standard library alone: one page, which a browser asks for and sends its form to.

A page of another site can make a browser send requests to this machine. Two checks keep it from using the demo. The
name that the browser asked for (`Host`) must be an address, localhost or a name that was given, since a stranger's name
may be pointed at this machine (DNS rebinding). And a form must come from this page (`Origin`).
"""

import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from explainer.demo.desk import Desk, Reply
from explainer.demo.page import POLICY, refusal_page

SECONDS = 30
"""How long a connection may be silent."""

DISCARDED = 2**24
"""Bytes of a body that is too large which are read, since a browser shows no answer to a form that it cannot send."""

_FORM = "application/x-www-form-urlencoded"
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser names no origin of a form
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """A server that is bound to its address at once, and listens when `listen` gives it a desk.

    Args:
        host: a name or an address of this machine.
        port: 0 for any free one.
        names: further names by which browsers may ask for the page.
        max_bytes: of a form.

    Raises:
        ValueError: when the address cannot be bound.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, names: tuple[str, ...] = (), max_bytes: int = 1_000_000) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.host, self.names, self.max_bytes = host, {name.lower() for name in names}, max_bytes
        self.desk: Desk | None = None
        try:
            self.server_bind()
        except (OSError, OverflowError) as error:
            self.server_close()
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"`--host {host}` and `--port {port}` cannot be listened at: {reason}. Give a name or an address of "
                "this machine, and a port that is free (0: any)."
            ) from error

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # that of HTTPServer asks for the machine's name, which may take long
        self.server_name, self.server_port = self.host, self.server_address[1]

    def listen(self, desk: Desk) -> None:
        """Listen from now on."""
        self.desk = desk
        self.server_activate()

    @property
    def address(self) -> str:
        """The address for a browser on this machine."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_port}"

    def serves(self, name: str | None) -> bool:
        """Whether browsers may ask for the page by this name: an address, localhost, or a name that was given."""
        if name is None or name in {"localhost", self.host.lower(), *self.names}:
            return name is not None
        return _is_address(name)

    def is_ours(self, origin: str | None, host: str) -> bool:
        """Whether a form comes from this page; a program that is no browser names no origin."""
        if origin is None:
            return True
        place = _split(origin)
        return place.netloc.lower() == host.lower() or (place.hostname or "") in self.names

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a visitor who leaves is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    server_version, sys_version = "amortex", ""
    timeout = SECONDS

    def do_GET(self) -> None:
        if self._is_allowed():
            assert self.server.desk is not None
            self._send(self.server.desk.first())

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if not self._is_allowed():
            return
        assert self.server.desk is not None
        body = self._body()
        if body is not None:
            self._send(self.server.desk.answer(body))

    # What is refused

    def _is_allowed(self) -> bool:
        """Whether the page is asked for by a good name, from a good place; else the refusal is sent."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = _split(f"//{host}").hostname
        if not self.server.serves(name):
            self._refuse(403, f"This page is not served as {host!r:.80}. `--hosts {name or 'NAME'}` allows that name.")
        elif self.command == "POST" and not self.server.is_ours(origin, host):
            self._refuse(
                403, f"The form comes from another page, {origin!r:.80}: open this page itself, and send it there."
            )
        elif urlsplit(self.path).path != "/":
            self._refuse(404, "There is one page here, at /.")
        else:
            return True
        return False

    def _body(self) -> bytes | None:
        """The form as it was sent; None where it was refused."""
        given, limit = self.headers.get("Content-Length", ""), self.server.max_bytes
        if not (given.isdecimal() and given.isascii() and len(given) < 20):
            self._refuse(411, "The form needs its length, `Content-Length`.")
        elif int(given) > limit:
            self._discard(int(given))
            self._refuse(413, f"The form has {int(given):,} bytes, and this page takes {limit:,}: shorten the text.")
        elif self.headers.get_content_type() != _FORM:
            self._discard(int(given))
            self._refuse(415, f"The form must be of the type {_FORM}.")
        elif len(body := self.rfile.read(int(given))) < int(given):
            self._refuse(400, "The form ended early.")
        else:
            return body
        return None

    def _discard(self, length: int) -> None:
        left = min(length, DISCARDED)
        while left > 0 and (part := self.rfile.read(min(left, 2**16))):
            left -= len(part)

    # What is sent

    def _refuse(self, status: int, reason: str) -> None:
        self._send(Reply(status, refusal_page(reason)))

    def _send(self, reply: Reply) -> None:
        content = reply.html.encode("utf-8", errors="replace")
        self.send_response(HTTPStatus(reply.status))
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(content)), **_HEADERS}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are not logged."""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _split(address: str) -> Any:
    """The parts of an address; of one that is none, no parts."""
    try:
        parts = urlsplit(address)
        parts.hostname  # noqa: B018 - raises where brackets do not match
    except ValueError:
        return urlsplit("")
    return parts
