"""`explainer demo`, started as a command; its page has tests of its own."""

import re
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from explainer.attributor import Attributor, ResponseAttributor
from explainer.commands.attribute import attribute
from explainer.commands.demo import demo, demo_of
from explainer.demo import DemoServer, Limits, ResponseDemo, TextDemo
from explainer.explainers import EXPLAINERS
from explainer.methods import METHODS
from explainer.methods.trained.amortized import Amortized
from tests.explainer.explained.test_responses import model as language_model
from tests.explainer.tools import saved
from tests.families import explained
from tests.pages import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("bert"), tmp_path_factory.mktemp("model"))


def test_the_command_serves_its_page_until_it_is_interrupted(model: str) -> None:
    arguments = ["demo", "--method", "attn_lrp", "--model", model, "--port", "0", "--methods", "random"]
    program = [sys.executable, "-m", "lightning_modules", *arguments]
    # A shell that started the tests in the background has them ignore the signal, and what they start.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=heard) as running:
        try:
            assert running.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", running.stdout.readline())
            assert found is not None
            with urllib.request.urlopen(f"{found[0]}/", b"text=a+good+film&beside=random", timeout=60) as answer:
                page = answer.read().decode()
            assert page.count('class="label" title="random"') == 1
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 0
        finally:
            running.kill()  # or the test would wait for it without end


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The demos that the command would serve."""
    found: list[Any] = []
    monkeypatch.setattr(DemoServer, "listen", lambda self, desk: found.append(desk.demo))
    monkeypatch.setattr(DemoServer, "serve_forever", lambda self: None)
    return found


def test_all_other_methods_are_offered_beside_it(model: str, shown: list[Any]) -> None:
    demo("sig", model, port=0, method_args={"n_steps": 3}, max_passes=7)
    (one,) = shown
    assert isinstance(one, TextDemo)
    assert list(one.others) == [name for name in METHODS if name != "sig"]
    assert one.attributor.method.settings["n_steps"] == 3
    assert one.limits == Limits(passes=7)


def test_exported_explainers_and_their_labels(model: str, shown: list[Any], tmp_path: Path) -> None:
    loaded = Attributor.of(model, "random").explained
    for name in ("a", "b"):
        Attributor(loaded, Amortized(EXPLAINERS["side"](loaded).eval())).save_pretrained(tmp_path / name)
    demo(str(tmp_path / "a"), port=0, methods=f"random,other={tmp_path / 'b'}")
    (one,) = shown
    assert list(one.others) == ["random", "other"]
    with pytest.raises(ValueError, match=r"`--methods` names 'explainer', the label of `--method` itself"):
        demo(str(tmp_path / "a"), port=0, methods=str(tmp_path / "b"))


def test_a_language_model_has_the_page_of_responses(shown: list[Any], tmp_path: Path) -> None:
    folder = saved(language_model("qwen2"), tmp_path)
    demo("attn_lrp", folder, task="response", port=0, methods="random", max_new_tokens=3)
    (one,) = shown
    assert isinstance(one, ResponseDemo)
    assert isinstance(one.others["random"], ResponseAttributor)
    assert one.limits.new_tokens == 3


def test_an_exported_explainer_of_responses_needs_no_task(shown: list[Any], tmp_path: Path) -> None:
    loaded = language_model("qwen2")
    made = ResponseAttributor(loaded, Amortized(EXPLAINERS["attention"](loaded).eval()))
    made.save_pretrained(tmp_path / "explainer", merge=True)
    demo(str(tmp_path / "explainer"), port=0, methods="random")
    assert isinstance(shown[0], ResponseDemo)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "`method` must be one of"),
        ({"model": None}, "`--method random` needs `--model`"),
        ({"methods": "random,magic"}, "`--methods` must be of .*, got 'magic'"),
        ({"methods": "sig,sig"}, "`--methods` names 'sig' twice"),
        ({"port": 70_000}, "`--port` must be from 0 to 65535, got 70000"),
        ({"host": "no.such.host.invalid"}, "`--host no.such.host.invalid` and `--port 0` cannot be listened at"),
        ({"max_characters": 0}, "`--max_characters` must be at least 1, got 0"),
        ({"max_passes": -1}, "`--max_passes` must be at least 1, got -1"),
        ({"max_new_tokens": 0}, "`--max_new_tokens` must be at least 1, got 0"),
        ({"dtype": "float8"}, "`--dtype` must be"),
        ({"task": "response", "labels": "a,b"}, "`--task response` does not read --labels"),
        ({"task": "prompted"}, "`--task prompted` and `--prompt PROMPT.yaml` belong together"),
        ({"method_args": {"colour": 3}}, "`settings` of method 'random'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str, model: str, shown: list[Any]) -> None:
    with pytest.raises(ValueError, match=message):
        demo(**{"method": "random", "model": model, "port": 0, **options})
    assert shown == []


def test_a_page_that_others_reach_is_warned_of(model: str, shown: list[Any]) -> None:
    with pytest.warns(UserWarning, match=r"`--host 0\.0\.0\.0` is reached from other machines.* no password"):
        demo("random", model, host="0.0.0.0", port=0)
    demo("random", model, host="localhost", port=0)  # where a warning would be an error
    assert len(shown) == 2


def test_the_demo_is_that_of_the_attributor() -> None:
    assert isinstance(demo_of(Attributor.of(explained("bert"), "random"), {}, Limits()), TextDemo)


def test_attribute_names_the_way_to_responses(tmp_path: Path) -> None:
    loaded = language_model("qwen2")
    made = ResponseAttributor(loaded, Amortized(EXPLAINERS["attention"](loaded).eval()))
    made.save_pretrained(tmp_path / "explainer", merge=True)
    with pytest.raises(ValueError, match="explains the responses of a language model: give `--task response`"):
        attribute(str(tmp_path / "explainer"), text="a film")
