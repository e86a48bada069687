"""examples/serve.py, started as a server: every request gets the answer to its own text, mistakes get a reason."""

import http.client
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from explainer.attributor import Attributor
from explainer.attributor.options import CallOptions
from explainer.explained import EncodedText, ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import saved
from tests.families import TASKS, WORDS, explained

ROOT = Path(__file__).parents[2]
MAX_CHARACTERS = 2000


@pytest.fixture(scope="module")
def attributor(tmp_path_factory: pytest.TempPathFactory) -> Attributor:
    """A tiny random model and explainer, as they were exported."""
    folder = tmp_path_factory.mktemp("served")
    model = ExplainedModel.from_pretrained(saved(explained("bert"), folder / "model"))
    Attributor(model, Amortized(EXPLAINERS["separate"](model).eval())).save_pretrained(folder / "attributor")
    loaded = Attributor.from_pretrained(folder / "attributor")
    loaded.folder = folder / "attributor"  # type: ignore[attr-defined]
    return loaded


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def port(attributor: Attributor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port, log = free_port(), tmp_path_factory.mktemp("log") / "serve.log"
    arguments = ["--method", str(attributor.folder), "--port", str(port), "--threads", "1", "--accelerator", "cpu"]  # type: ignore[attr-defined]
    arguments += ["--max_characters", str(MAX_CHARACTERS)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "examples/serve.py", *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for(server, port, log)
            yield port
        finally:
            server.terminate()
            server.wait(60)
            nothing_is_left_of(server.pid)


def nothing_is_left_of(group: int) -> None:
    """A terminated server takes the processes that it started with it."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("the server left processes behind")


def wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(1200):
        assert server.poll() is None, log.read_text()
        try:
            if request(port, "GET", "/health")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def request(port: int, verb: str, path: str, content: str | bytes | None = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(verb, path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    return response.status, json.loads(body) if body.startswith("{") else body


def ask(port: int, **content: object) -> tuple[int, Any]:
    return request(port, "POST", "/predict", json.dumps(content))


def check(answer: tuple[int, Any], attributor: Attributor, text: str, pair: str | None, target: str | int) -> None:
    (expected,) = attributor([text], [pair], target=target)
    status, reply = answer
    labels = attributor.explained.labels
    assert status == 200, reply
    assert list(reply) == ["label", "probabilities", "target", "method", "words"]
    assert reply["probabilities"] == pytest.approx(dict(zip(labels, expected.probabilities, strict=True)), abs=1e-5)
    assert reply["label"] == max(reply["probabilities"], key=lambda label: reply["probabilities"][label])
    assert reply["target"] == expected.target_label
    assert reply["method"] == "explainer"
    assert reply["words"] == [
        {**word._asdict(), "score": pytest.approx(word.score, abs=1e-5)} for word in expected.words()
    ]


def test_fifty_at_once_get_the_answer_to_their_own_text(port: int, attributor: Attributor) -> None:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORDS.split(), k=1 + i % 30)) for i in range(50)]
    pairs = [None if i % 3 else "not very good" for i in range(50)]
    targets = [("predicted", "LABEL_1", 2)[i % 3] for i in range(50)]
    with ThreadPoolExecutor(50) as clients:
        answers = list(
            clients.map(
                lambda i: ask(port, text=texts[i], text_pair=pairs[i], target=targets[i]),
                range(50),
            )
        )
    for answer, text, pair, target in zip(answers, texts, pairs, targets, strict=True):
        check(answer, attributor, text, pair, target)


@cache
def serving() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("serve", ROOT / "examples" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_answered(task: str, tmp_path: Path) -> None:
    """By the server's class, without a server: against the bare model."""
    serve = serving()
    model = explained("bert", **TASKS[task])
    server = serve.Server("sig", saved(model, tmp_path), None, max_batch_size=4)
    server.setup("cpu")
    requests = [
        serve.Request(text="a good film"),
        serve.Request(text="bad", target=7),
        serve.Request(text="bad", target=0),
    ]
    good, unknown, named = server.predict(requests)
    assert isinstance(unknown, serve.Refusal)
    for explanation, text in ((good, "a good film"), (named, "bad")):
        with torch.no_grad():
            logits = model.model(**model.tokenizer(text, return_tensors="pt")).logits[0]
        reply = json.loads(server.encode_response(explanation).body)
        if task == "regression":
            assert (reply["label"], reply["probabilities"]) == (None, None)
            assert reply["value"] == pytest.approx(float(logits[0]), abs=1e-5)
            continue
        probabilities = logits.softmax(dim=0) if task == "classification" else logits.sigmoid()
        assert reply["label"] == model.labels[int(logits.argmax())]
        assert list(reply["probabilities"]) == model.labels
        assert list(reply["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_an_empty_text_is_answered(port: int, attributor: Attributor) -> None:
    check(ask(port, text=""), attributor, "", None, "predicted")
    assert ask(port, text="")[1]["words"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON decode error"),
        ("[]", "valid dictionary"),
        ("{}", "Field required"),
        ('{"text": 3}', "valid string"),
        ('{"text": null}', "valid string"),
        ('{"text": "good", "texts": "bad"}', "Extra inputs"),
        ('{"text": "good", "text_pair": 1}', "valid string"),
        ('{"text": "good", "target": true}', "valid integer"),
        ('{"text": "good", "target": "marvellous"}', "`target` must be 'predicted', one of the labels"),
        ('{"text": "good", "target": 3}', "an index below 3, got 3"),
        ('{"text": "good", "target": 1e999}', "valid integer"),
        ('{"text": "good", "target": "\\ud800"}', "`target` must be 'predicted', one of the labels"),
        ('{"text": "good", "\\ud800": 1}', "unicode string"),
        ('{"text": "\\ud800 good"}', ""),
        ('{"text": "good", "text_pair": "\\udc00"}', ""),
    ],
)
def test_a_mistake_gets_422_and_the_reason(content: str, message: str, port: int) -> None:
    status, reply = request(port, "POST", "/predict", content)
    assert status == 422
    assert reply["detail"]
    assert message in json.dumps(reply)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (json.dumps({"text": "a" * (MAX_CHARACTERS + 1)}), 413, "has 2001 characters, and this server takes 2000"),
        (json.dumps({"text": "a" * 1990, "text_pair": "b" * 11}), 413, "has 2001 characters"),
        (json.dumps({"text": "a" * 40_000}), 413, "too large"),
        ("[" * 20_000, 400, "parsing the body"),
        (b'{"text": "\xff"}', 400, "parsing the body"),
    ],
    ids=["text", "text and pair", "body", "nesting", "not UTF-8"],
)
def test_what_is_too_much_is_refused_at_once(content: str | bytes, status: int, message: str, port: int) -> None:
    found, reply = request(port, "POST", "/predict", content)
    assert (found, message in reply["detail"]) == (status, True)


def test_a_text_of_the_largest_length_is_answered(port: int) -> None:
    for text in ("good " * (MAX_CHARACTERS // 5), "\U0001f600" * MAX_CHARACTERS):
        assert ask(port, text=text)[0] == 200


def test_clients_that_leave_do_not_disturb_the_others(port: int, attributor: Attributor) -> None:
    body = json.dumps({"text": "a very good film"}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for sent in (head % len(body) + body, head % len(body) + body[:5], b"POST /predict HTTP/1.1\r\nHo"):
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sent)
    with ThreadPoolExecutor(16) as clients:
        for answer in clients.map(lambda _: ask(port, text="a very good film"), range(16)):
            check(answer, attributor, "a very good film", None, "predicted")


def test_a_text_that_fails_with_others_fails_alone(attributor: Attributor, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's class: the model gives no numbers for one of four texts."""
    server = serving().Server("", None, None, max_batch_size=4)
    server.attributor, explain = attributor, attributor.explain

    def broken(texts: list[EncodedText], options: CallOptions) -> list[Any]:
        if any(text.text == "bad" for text in texts):
            raise ValueError("no number")
        return explain(texts, options)

    monkeypatch.setattr(attributor, "explain", broken)
    texts = ["good", "bad", "a film", "\ud800"]
    good, bad, film, half = server.predict([serving().Request(text=text) for text in texts])
    assert [(one.status, one.reason) for one in (bad,)] == [(422, "no number")]
    assert (good.text, film.text, half.status) == ("good", "a film", 422)


def test_a_mistake_does_not_disturb_those_it_is_batched_with(port: int, attributor: Attributor) -> None:
    good: dict[str, Any] = {"text": "a very good film"}
    mistakes: list[dict[str, Any]] = [{"target": 9}, {"text": "\ud800"}, {"text": "a" * 2001}]
    wanted = [good | mistakes[i // 5 % 3] if i % 5 == 0 else good for i in range(50)]
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda content: ask(port, **content), wanted))
    for answer, content in zip(answers, wanted, strict=True):
        if content == good:
            check(answer, attributor, "a very good film", None, "predicted")
        else:
            assert answer[0] == (413 if len(content["text"]) > MAX_CHARACTERS else 422)
