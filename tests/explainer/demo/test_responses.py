"""The demo of responses over HTTP: messages in, and what the attributor of responses gives out."""

import re
from html import unescape
from typing import Any

import pytest

from explainer.demo import DemoServer, Limits
from explainer.rendering.response_html import response_fragment, response_live
from tests.explainer.demo.served import request, response_demo, sent, served
from tests.explainer.demo.test_texts import ERROR
from tests.explainer.explained.test_responses import MESSAGES

TYPED = [(name, message[name].replace("\n", "\r\n")) for message in MESSAGES for name in ("role", "content")]


@pytest.fixture(scope="module")
def server() -> Any:
    with served(response_demo()) as one:
        yield one


def shown(explanation: Any) -> str:
    return response_fragment(explanation.view(), style=False)


@pytest.mark.parametrize("sources", ["sentence", "word", "token", "message"])
def test_the_page_shows_what_the_attributor_gives(sources: Any, server: DemoServer) -> None:
    demo = response_demo()
    status, page = sent(server, [*TYPED, ("sources", sources), ("trust", "true"), ("beside", "random")])
    options: dict[str, Any] = {"sources": sources, "trust": True, "generate": {"max_new_tokens": 4}}
    assert status == 200, ERROR.findall(page)
    for attributor in (demo.attributor, demo.others["random"]):
        assert shown(attributor(MESSAGES, **options)) in page


def test_a_part_of_a_given_response_rather_than_another(server: DemoServer) -> None:
    asked = {"response": " good fun and so", "span": "fun and"}
    expected = response_demo().attributor(MESSAGES, **asked, sources="sentence")
    assert shown(expected) in sent(server, [*TYPED, *asked.items()])[1]
    expected = response_demo().attributor(MESSAGES, response=" good", foil=" bad and dull", sources="sentence")
    assert shown(expected) in sent(server, [*TYPED, ("response", " good"), ("foil", " bad and dull")])[1]


def test_parts_are_picked_by_a_click_where_that_is_asked_for(server: DemoServer) -> None:
    status, page = sent(server, [*TYPED, ("response", " good fun"), ("pick", "true"), ("beside", "random")])
    expected = response_demo().attributor(MESSAGES, response=" good fun", sources="sentence")
    assert status == 200
    assert response_live(expected.view(matrix=expected.matrix())) in page
    assert page.count('id="amortex"') == 1


def test_messages_are_added_and_the_conversation_goes_on(server: DemoServer) -> None:
    status, page = sent(server, [*TYPED, ("action", "add")])
    assert (status, page.count('<textarea name="content"')) == (200, 3)
    status, page = sent(server, [*TYPED, ("response", " good <b>"), ("trust", "true")])
    (said,) = re.findall(r'name="said" value="([^"]*)"', page)
    assert said == " good &lt;b&gt;"
    status, page = sent(server, [*TYPED, ("response", " good <b>"), ("said", " good <b>"), ("action", "continue")])
    assert page.count('<textarea name="content"') == 4
    assert "\n good &lt;b&gt;</textarea>" in page
    assert re.findall(r'<option value="(\w+)" selected>(?=.*?</select>)', page)[:4] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert "autofocus>\n</textarea>" in page


def test_a_model_without_a_chat_template_continues_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = response_demo("gpt2")
    monkeypatch.setattr(demo.attributor.explained.tokenizer, "chat_template", None)
    with served(demo) as server:
        form = request(server)[1]
        status, page = sent(server, {"prompt": "the film was. so it is", "response": " dull"})
    assert 'name="prompt"' in form
    assert 'name="role"' not in form
    assert "Add a message" not in form
    assert status == 200
    assert shown(demo.attributor("the film was. so it is", response=" dull", sources="sentence")) in page
    assert "Continue the conversation" not in page


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "The prompt is empty: type what the model is to answer."),
        ([("role", "user"), ("content", " ")], "The prompt is empty"),
        ([("role", "king"), ("content", "a film")], "Each message must have a `content` and a `role` of system, user"),
        ([("role", "user"), ("content", "a"), ("content", "b")], "Each message must have a `content` and a `role`"),
        ([*TYPED, ("response", " good"), ("span", "bad")], "`span` &#x27;bad&#x27; occurs 0 times"),
        ([*TYPED, ("response", " good"), ("foil", " good")], "`foil` is the response itself"),
        ([*TYPED, ("sources", "chapter")], "`sources` must be one of token, word, sentence, paragraph, message"),
        ([*TYPED, ("beside", "magic")], "`beside` must be one of random, got &#x27;magic&#x27;"),
        ([("role", "user"), ("content", "good " * 200)], "the model takes 120"),
        ([("role", "user"), ("content", "good " * 2001)], "The text has 10,005 characters"),
    ],
)
def test_what_is_wrong_is_said_in_the_page(fields: Any, message: str, server: DemoServer) -> None:
    status, page = sent(server, [*fields, ("trust", "true")])
    (told,) = ERROR.findall(page)
    assert status == 422
    assert message in told


def test_picking_is_refused_where_it_takes_too_many_passes() -> None:
    with served(response_demo(limits=Limits(passes=5, new_tokens=4))) as server:
        status, page = sent(server, [*TYPED, ("response", " good fun and so"), ("pick", "true")])
    assert status == 422
    assert "`max_passes=5`" in ERROR.findall(page)[0]


def test_the_response_is_the_models_own(server: DemoServer) -> None:
    expected = response_demo().attributor(MESSAGES, sources="sentence", generate={"max_new_tokens": 4})
    status, page = sent(server, TYPED)
    (said,) = re.findall(r'name="said" value="([^"]*)"', page)
    assert status == 200
    assert unescape(said) == expected.response
    assert len(expected.response_ids) <= 4
