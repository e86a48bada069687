"""The server of the demo: who may ask for its page, what is too much, and what a visitor's mistakes do to others."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from explainer.demo import DemoServer, TextDemo, desk
from explainer.demo import server as serving
from explainer.demo.fields import Fields
from tests.explainer.demo.served import FORM, request, sent, served, text_demo
from tests.explainer.demo.test_texts import ERROR


@pytest.fixture(scope="module")
def server() -> Any:
    with served(text_demo(), names=("demo.example",), max_bytes=2000) as one:
        yield one


GOOD = {"text": "a good film"}


def test_the_page_loads_nothing_and_says_so_to_the_browser(server: DemoServer) -> None:
    status, page, headers = request(server)
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert "http:" not in page
    assert "https:" not in page
    assert request(server, "HEAD")[1] == ""
    assert request(server, "PUT")[0] == 501


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8888", 200),  # a tunnel ends at another port
        ("[::1]:80", 200),
        ("192.168.0.3:7860", 200),
        ("demo.example", 200),
        ("DEMO.example:443", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
        ("[::1", 403),
        ("<script>", 403),
    ],
)
def test_the_page_is_served_under_its_own_names_only(host: str, status: int, server: DemoServer) -> None:
    found, page, _ = request(server, Host=host)
    assert found == status
    assert ("<textarea" in page) == (status == 200)
    assert "<script>'" not in page
    assert sent(server, GOOD, Host=host)[0] == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200),
        ("https://demo.example", 200),
        ("http://evil.example", 403),
        ("http://127.0.0.1:3000", 403),
        ("http://127.0.0.1.evil.example:7860", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_form_of_another_page_is_refused(origin: str, status: int, server: DemoServer) -> None:
    assert sent(server, GOOD, Origin=origin, Host="127.0.0.1:7860")[0] == status
    assert request(server, Origin=origin, Host="127.0.0.1:7860")[0] == 200  # it cannot read the answer


def test_other_places_are_not_there(server: DemoServer) -> None:
    assert request(server, path="/favicon.ico")[0] == 404
    assert request(server, path="/../../etc/passwd")[0] == 404
    assert request(server, path="/?text=good")[0] == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        ("text=" + "a" * 1996, {}, 413, "The form has 2,001 bytes, and this page takes 2,000: shorten the text."),
        ("text=" + "a" * 3_000_000, {}, 413, "The form has 3,000,005 bytes"),
        ("text=a", {"Content_Type": "text/plain"}, 415, "must be of the type application/x-www-form-urlencoded"),
        ("text=a", {"Content_Length": "-1"}, 411, "`Content-Length`"),
        ("text=a", {"Content_Length": "9" * 30}, 411, "`Content-Length`"),
        ("text=%ff", {}, 400, "The form must be urlencoded UTF-8"),
        ("text=a&" * 201, {}, 400, "at most 200 fields"),
    ],
)
def test_what_is_too_much_or_no_form_is_refused(
    body: str, headers: dict[str, str], status: int, message: str, server: DemoServer
) -> None:
    found, page, _ = request(server, "POST", "/", body, **{"Content_Type": FORM, **headers})
    assert (found, message in ERROR.findall(page)[0]) == (status, True)
    assert sent(server, GOOD)[0] == 200


def test_visitors_who_leave_disturb_nobody(server: DemoServer, capfd: pytest.CaptureFixture[str]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + FORM.encode() + b"\r\nContent-Length: 6\r\n\r\n"
    for part in (head + b"text=a", head + b"te", b"POST / HT", b"\x16\x03\x01\0\n", b""):
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
                connection.sendall(part)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert sent(server, GOOD)[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_connection_that_is_silent_is_closed(monkeypatch: pytest.MonkeyPatch, server: DemoServer) -> None:
    monkeypatch.setattr(serving._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        assert connection.recv(100) == b""


def test_many_at_once_get_the_answer_to_their_own_text(server: DemoServer) -> None:
    texts = [f"a {word} film" for word in ("good", "bad", "great", "awful", "dull")] * 2
    with ThreadPoolExecutor(len(texts)) as visitors:
        answers = list(visitors.map(lambda text: sent(server, {"text": text}), texts))
    for text, (status, page) in zip(texts, answers, strict=True):
        assert status == 200
        assert f"\n{text}</textarea>" in page
        assert text_demo().attributor(text).view().headings[0].headline in page


def test_those_who_would_wait_too_long_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "WAITING", 1)
    at_work, go_on = threading.Event(), threading.Event()

    def slow(self: TextDemo, fields: Fields) -> str:
        at_work.set()
        assert go_on.wait(30)
        return "<p>done</p>"

    monkeypatch.setattr(TextDemo, "answer", slow)
    with served(text_demo()) as server, ThreadPoolExecutor(1) as visitors:
        first = visitors.submit(sent, server, GOOD)
        assert at_work.wait(30)
        status, page = sent(server, GOOD)
        assert (status, "try again soon" in page) == (503, True)
        assert request(server)[0] == 200
        go_on.set()
        assert "<p>done</p>" in first.result()[1]
        assert sent(server, GOOD)[0] == 200


def test_a_failure_of_the_model_is_a_page_too(
    monkeypatch: pytest.MonkeyPatch, server: DemoServer, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(self: TextDemo, fields: Fields) -> str:
        raise RuntimeError("out of <memory>")

    with monkeypatch.context() as patched:
        patched.setattr(TextDemo, "answer", broken)
        status, page = sent(server, GOOD)
    assert (status, "RuntimeError: out of &lt;memory&gt;" in page) == (500, True)
    assert "out of <memory>" in capfd.readouterr().err
    assert sent(server, GOOD)[0] == 200


def test_an_address_that_cannot_be_had_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"`--host 127.0.0.1` and `--port {port}` cannot be listened at: Address"):
            DemoServer("127.0.0.1", port)
    with pytest.raises(ValueError, match=r"`--host no\.such\.host\.invalid`"):
        DemoServer("no.such.host.invalid", 0)


def test_the_server_does_not_answer_before_it_listens() -> None:
    with DemoServer("127.0.0.1", 0) as closed, pytest.raises(ConnectionRefusedError):
        request(closed)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1")])
def test_the_address_is_one_for_a_browser(host: str, shown: str) -> None:
    with served(text_demo(), host=host) as server:
        assert server.address == f"http://{shown}:{server.server_port}"
        assert request(server, Host=f"{shown}:{server.server_port}")[0] == 200
