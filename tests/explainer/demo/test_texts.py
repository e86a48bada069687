"""The demo of texts over HTTP: its page shows what the attributor gives, and says what is wrong with a form."""

import re
from typing import Any

import pytest

from explainer.attributor import Attributor
from explainer.demo import DemoServer, Limits, TextDemo
from explainer.demo.prediction import prediction, trust_table
from explainer.explainers import EXPLAINERS
from explainer.methods.trained.amortized import Amortized
from explainer.rendering import side_by_side
from explainer.rendering.html import fragment
from tests.explainer.demo.served import request, sent, served, text_demo
from tests.families import ANCHORED_TASKS, LANGUAGE_TASKS, TASKS, TEXTS, ZERO_SHOT_TASKS, explained

WARNING = re.compile(r'<p class="notice">([^<]*)</p>')
ERROR = re.compile(r'<p class="error" role="alert">([^<]*)</p>')


@pytest.fixture(scope="module")
def server() -> Any:
    with served(text_demo()) as one:
        yield one


def shown(explanation: Any) -> str:
    return fragment(explanation.view(), style=False)


@pytest.mark.parametrize("text", TEXTS[:3])
@pytest.mark.parametrize("target", ["predicted", "1", "LABEL_2"])
def test_the_page_shows_what_the_attributor_gives(text: str, target: str, server: DemoServer) -> None:
    status, page = sent(server, {"text": text, "target": target, "trust": "true"})
    index: Any = int(target) if target.isdecimal() else target
    expected = text_demo().attributor(text, target=index, trust=True)
    assert status == 200
    assert shown(expected) in page
    assert prediction(expected, text_demo().attributor.explained.labels) in page
    assert trust_table({"attn_lrp": expected}) in page
    assert f"{text}</textarea>" in page


EVERY_TASK = [*TASKS.items(), *ZERO_SHOT_TASKS.items(), *LANGUAGE_TASKS.items(), *ANCHORED_TASKS.items()]


@pytest.mark.parametrize(("name", "task"), EVERY_TASK, ids=[name for name, _ in EVERY_TASK])
def test_every_task_has_a_page(name: str, task: dict[str, Any]) -> None:
    demo = text_demo("llama" if name in LANGUAGE_TASKS else "bert", **task)
    pair = "the film was good" if name == "question-answering" else None
    with served(demo) as server:
        assert request(server)[0] == 200
        status, page = sent(server, {"text": "was this movie good", "trust": "true", "text_pair": pair or ""})
    expected = demo.attributor("was this movie good", pair, trust=True)
    assert (status, ERROR.findall(page)) == (200, [])
    assert shown(expected) in page
    assert trust_table({"attn_lrp": expected}) in page


@pytest.mark.parametrize("name", ANCHORED_TASKS)
def test_a_part_of_the_text_is_explained(name: str) -> None:
    demo, pair = text_demo("bert", **ANCHORED_TASKS[name]), "the film was good" if name.startswith("q") else None
    fields = {"text": "this film was bad", "text_pair": pair or "", "target": "film"}
    with served(demo) as server:
        assert shown(demo.attributor("this film was bad", pair, target="film")) in sent(server, fields)[1]
        status, page = sent(server, {**fields, "target": "nothing"})
    assert status == 422
    assert "nothing" in ERROR.findall(page)[0]


def test_another_method_is_shown_beside_it(server: DemoServer) -> None:
    demo = text_demo()
    fields = {"text": TEXTS[0], "beside": "leave_one_out", "foil": "runner_up", "units": "word"}
    status, page = sent(server, fields)
    options: dict[str, Any] = {"foil": "runner_up", "units": "word"}
    both = {"attn_lrp": demo.attributor, "leave_one_out": demo.others["leave_one_out"]}
    expected = side_by_side({label: one(TEXTS[0], **options) for label, one in both.items()})
    assert status == 200
    assert fragment(expected, style=False) in page
    assert "<h2>Trust</h2>" not in page
    assert '<option value="leave_one_out" selected>' in page


def test_a_trained_explainer_is_not_asked_for_a_contrast() -> None:
    model = explained("bert")
    demo = TextDemo(Attributor(model, Amortized(EXPLAINERS["side"](model).eval())))
    assert 'name="foil"' in request_form(text_demo())
    assert 'name="foil"' not in request_form(demo)
    assert 'name="beside"' not in request_form(demo)


def request_form(demo: TextDemo) -> str:
    with served(demo) as server:
        return request(server)[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "`text` is empty: type a text."),
        ({"text": " \r\n "}, "`text` is empty: type a text."),
        ({"text": "good", "target": "marvellous"}, "`target` must be &#x27;predicted&#x27;, one of the labels"),
        ({"text": "good", "target": "7"}, "an index below 3, got 7"),
        ({"text": "good", "target": "0", "foil": "0"}, "foil"),
        ({"text": "good", "foil": "dull"}, "`foil` must be &#x27;runner_up&#x27;"),
        ({"text": "good", "units": "chapter"}, "`units` must be one of token, word, sentence, paragraph, got"),
        ({"text": "good", "beside": "magic"}, "`beside` must be one of random, leave_one_out, greedy_deletion, got"),
        ({"text": "good film " * 1001}, "The text has 10,010 characters, and this page takes 10,000"),
        ({"text": "a" * 6000, "text_pair": "b" * 6000}, "The text has 12,000 characters"),
    ],
)
def test_what_is_wrong_is_said_in_the_page(fields: dict[str, str], message: str, server: DemoServer) -> None:
    status, page = sent(server, {"trust": "true", **fields})
    (told,) = ERROR.findall(page)
    assert status == 422
    assert message in told
    assert fields.get("text", "").strip() in page


def test_a_text_that_is_longer_than_the_model_is_cut_and_the_page_says_so(server: DemoServer) -> None:
    status, page = sent(server, {"text": "good " * 60})
    assert status == 200
    (notice,) = WARNING.findall(page)
    assert notice.startswith("The text has 62 tokens, the model takes 40: the last 22 tokens of the text are not read")


def test_an_explanation_of_too_many_passes_is_refused() -> None:
    with served(text_demo(limits=Limits(passes=9))) as server:
        assert sent(server, {"text": "good film", "beside": "leave_one_out"})[0] == 200
        status, page = sent(server, {"text": "good " * 10, "beside": "leave_one_out"})
        assert (status, "takes about 10 passes of the model for this text, and this page takes 9" in page) == (
            422,
            True,
        )
        assert sent(server, {"text": "good " * 10, "beside": "leave_one_out", "units": "sentence"})[0] == 200


def test_a_text_is_literal(server: DemoServer) -> None:
    text = "\n<script>alert(1)</script></textarea>&amp;\"'\0 good"
    status, page = sent(server, {"text": text.replace("\n", "\r\n"), "trust": "true", "target": "<b>"})
    assert status == 422
    assert "<script>alert" not in page
    assert "got &#x27;&lt;b&gt;&#x27;" in page
    # The reader of a page drops the first line feed of the element.
    assert (
        "\n\n&lt;script&gt;alert(1)&lt;/script&gt;&lt;/textarea&gt;&amp;amp;&quot;&#x27;\ufffd good</textarea>" in page
    )
    status, page = sent(server, {"text": text})
    assert status == 200
    assert "<script>alert" not in page


def test_many_labels_are_listed_by_their_probability() -> None:
    demo = text_demo("bert", labels=12)
    explanation = demo.attributor("good film")
    html = prediction(explanation, demo.attributor.explained.labels)
    names = re.findall(r'class="name" dir="auto">([^<]*)<', html)
    assert len(names) == 10
    assert names[0] == explanation.predicted_label
    assert "and 2 further labels" in html
