"""Forms as browsers send them."""

from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.demo.fields import MAX_FIELDS, Fields

TYPED = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(deadline=None, max_examples=50)
@given(st.lists(TYPED, max_size=5), TYPED)
def test_texts_arrive_as_they_were_typed(contents: list[str], text: str) -> None:
    typed = [one.replace("\r\n", "\n").replace("\r", "\n") for one in (*contents, text)]
    pairs = [("content", one.replace("\n", "\r\n")) for one in typed[:-1]] + [("text", typed[-1].replace("\n", "\r\n"))]
    fields = Fields.of(urlencode(pairs).encode())
    assert fields.all("content") == typed[:-1]
    assert fields.one("text") == typed[-1]


def test_a_box_is_checked_at_first_and_then_as_it_was_sent() -> None:
    assert Fields().is_checked("trust", at_first=True)
    assert not Fields.of(b"text=a").is_checked("trust", at_first=True)
    assert Fields.of(b"text=a&trust=true").is_checked("trust")


@pytest.mark.parametrize("body", [b"text=%ff", b"text=\xe9", b"text=%ed%a0%80", b"a=1&" * (MAX_FIELDS + 1)])
def test_what_is_no_form_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="The form must be urlencoded UTF-8 of at most 200 fields"):
        Fields.of(body)


def test_a_choice_is_one_of_those_there_are() -> None:
    fields = Fields.of(b"units=chapter")
    assert fields.choice("other", ["", "a"]) == ""
    with pytest.raises(ValueError, match="`units` must be one of token, word, got 'chapter'"):
        fields.choice("units", ["token", "word"])
