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
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import saved
from tests.families import TASKS, WORDS, explained

ROOT = Path(__file__).parents[2]


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


def request(port: int, verb: str, path: str, content: str | None = None) -> tuple[int, Any]:
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


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_answered(task: str, tmp_path: Path) -> None:
    """By the server's class, without a server: against the bare model."""
    spec = importlib.util.spec_from_file_location("serve", ROOT / "examples" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    model = explained("bert", **TASKS[task])
    server = serve.Server("sig", saved(model, tmp_path), None, max_batch_size=4)
    server.setup("cpu")
    requests = [
        serve.Request(text="a good film"),
        serve.Request(text="bad", target=7),
        serve.Request(text="bad", target=0),
    ]
    good, unknown, named = server.predict(requests)
    assert isinstance(unknown, ValueError)
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
    ],
)
def test_a_mistake_gets_422_and_the_reason(content: str, message: str, port: int) -> None:
    status, reply = request(port, "POST", "/predict", content)
    assert status == 422
    assert message in json.dumps(reply)


def test_a_mistake_does_not_disturb_those_it_is_batched_with(port: int, attributor: Attributor) -> None:
    wanted: list[str | int] = [9 if i % 5 == 0 else "predicted" for i in range(50)]
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda target: ask(port, text="a very good film", target=target), wanted))
    assert [status for status, _ in answers] == [422 if target == 9 else 200 for target in wanted]
    for answer, target in zip(answers, wanted, strict=True):
        if target != 9:
            check(answer, attributor, "a very good film", None, target)
