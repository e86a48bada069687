"""The demo in a real browser: what is typed is predicted, explained and compared, and nothing of it runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from explainer.demo import DemoServer
from explainer.explanation.text import percent
from tests.browser import BROWSER, Browser
from tests.explainer.demo.served import response_demo, served, text_demo
from tests.explainer.rendering.test_browser import HOSTILE, RAN

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
EXPLAIN = "#ask button:not([name])"
SCORES = "[...document.querySelectorAll('#answer .w')].map((word) => word.title)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def texts(browser: Browser) -> Any:
    with served(text_demo()) as server:
        browser.open(server.address)
        yield server


def explained_scores(text: str, **options: Any) -> list[str]:
    """The titles of the coloured words: tokens and score."""
    view = text_demo().attributor(text, **options).view()
    return [
        " ".join([*piece.tokens, f"{piece.score:+.3g}" if piece.score else "0"])
        for (column,) in [(one,) for text in view.texts() for one in text]
        for piece in column.rows[0]
        if piece.score is not None
    ]


def test_a_text_is_predicted_explained_and_asked_about_again(browser: Browser, texts: DemoServer) -> None:
    text = "this movie is not good"
    browser.type("[name=text]", text)
    browser.press(EXPLAIN)
    explanation = text_demo().attributor(text, trust=True)
    assert explanation.probabilities is not None
    told = browser.text(".labels li:first-child").split()
    assert told == [explanation.predicted_label, percent(max(explanation.probabilities))]
    assert browser.run(SCORES) == explained_scores(text)
    assert explanation.trust is not None
    assert f"{explanation.trust.faithfulness:+.2f}".replace("-", "−") in browser.text("table")
    browser.set("[name=target]", "2")
    browser.set("[name=beside]", "leave_one_out")
    browser.press(EXPLAIN)
    labels = browser.run("[...document.querySelectorAll('#answer .label')].map((one) => one.innerText)")
    assert labels[:2] == ["attn_lrp", "leave_one_out"]
    assert "LABEL_2" in browser.text("#answer .facts")
    own = browser.run("[...document.querySelectorAll('#answer .row:first-child .w')].map((word) => word.title)")
    assert own == explained_scores(text, target=2)


def test_a_text_comes_back_as_it_was_typed(browser: Browser, texts: DemoServer) -> None:
    text = "\n\n  a good\tfilm &amp; \u2028 \U0001f3ac <b>not</b> \n"
    browser.set("[name=text]", text)
    browser.press(EXPLAIN)
    assert browser.run("document.querySelector('[name=text]').value") == text
    assert browser.run("document.querySelector('#answer .heat').textContent") == text


def test_hostile_texts_are_shown_and_do_not_run(browser: Browser, texts: DemoServer) -> None:
    browser.set("[name=text]", " ".join(HOSTILE))
    browser.set("[name=beside]", "random")
    browser.press(EXPLAIN)
    assert "<script>" in browser.text("#answer")
    assert browser.run("document.documentElement.dataset.ran") is None
    browser.run(f"document.querySelector('[name=target]').options[0].value = {json.dumps(HOSTILE[0])}")
    browser.press(EXPLAIN)
    assert RAN in browser.text(".error")
    assert browser.run("document.documentElement.dataset.ran") is None


def test_an_empty_text_is_not_sent_and_a_blank_one_is_refused(browser: Browser, texts: DemoServer) -> None:
    assert browser.run("document.querySelector('#ask').checkValidity()") is False
    browser.type("[name=text]", "   ")
    browser.press(EXPLAIN)
    assert browser.text(".error") == "`text` is empty: type a text."
    assert browser.run("document.querySelector('.error').role") == "alert"


def test_the_page_asks_for_nothing_else_and_the_policy_holds(browser: Browser, texts: DemoServer) -> None:
    browser.requested.clear()
    browser.complaints.clear()
    browser.open(texts.address)
    browser.type("[name=text]", "a good film")
    browser.press(EXPLAIN)
    assert {address.split("#")[0] for address in browser.requested} == {f"{texts.address}/"}
    assert browser.complaints == []
    # A script that came with a text would be refused by the policy, even if it were not escaped.
    browser.run(f"document.body.append(Object.assign(document.createElement('script'), {{text: {json.dumps(RAN)}}}))")
    assert browser.run("document.documentElement.dataset.ran") is None


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_any_width_and_follows_the_theme(
    dark: bool, width: int, browser: Browser, texts: DemoServer
) -> None:
    browser.resize(width, 900, dark)
    browser.type("[name=text]", "a good film " * 10)
    browser.set("[name=beside]", "random")
    browser.press(EXPLAIN)
    assert browser.run("document.documentElement.scrollWidth") <= width
    paper, ink = browser.run(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    assert (paper == "rgb(17, 17, 17)") == dark
    assert browser.run("getComputedStyle(document.querySelector('[name=text]')).color") == ink


def test_every_control_has_a_name(browser: Browser, texts: DemoServer) -> None:
    controls = "[...document.querySelectorAll('textarea, select, input:not([type=hidden])')]"
    unnamed = f"{controls}.filter((one) => !one.labels.length || !one.labels[0].textContent.trim()).length"
    assert browser.run(unnamed) == 0
    assert browser.run("document.activeElement.name") == "text"


def test_a_conversation_is_answered_picked_from_and_continued(browser: Browser) -> None:
    with served(response_demo()) as server:
        browser.open(server.address)
        browser.set("[name=role]", "system")
        browser.type("[name=content]", "be good")
        browser.press("[value=add]")
        assert browser.run("document.activeElement.name") == "content"
        browser.type(".row:last-child [name=content]", "a film. it is fun")
        browser.run("document.querySelector('[name=pick]').click()")
        browser.press(EXPLAIN)
        messages = [{"role": "system", "content": "be good"}, {"role": "user", "content": "a film. it is fun"}]
        options: dict[str, Any] = {"sources": "sentence", "generate": {"max_new_tokens": 4}}
        explanation = response_demo().attributor(messages, **options)
        assert browser.run("document.querySelector('.said').textContent") == explanation.response
        titles = browser.run(SCORES)
        assert [float(title.replace("−", "-")) for title in titles] == pytest.approx(
            [source.score for source in explanation.sources()], rel=0.01
        )
        browser.run("document.querySelector('.said').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
        assert "1 of 4 tokens" in browser.text(".headline")
        browser.press("[value=continue]")
        values = browser.run("[...document.querySelectorAll('[name=content]')].map((one) => one.value)")
        assert values == ["be good", "a film. it is fun", explanation.response, ""]


def test_the_page_says_that_the_model_is_at_work(browser: Browser, texts: DemoServer, tmp_path: Path) -> None:
    browser.type("[name=text]", "a good film")
    browser.run("document.querySelector('#ask').addEventListener('submit', (event) => event.preventDefault())")
    browser.run(f"document.querySelector({EXPLAIN!r}).click()")
    assert browser.run("new Promise((done) => setTimeout(() => done(document.querySelector('#status').innerText), 50))")
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
