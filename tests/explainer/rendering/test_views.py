"""Views: labels, scales and what is said about a map."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest

from explainer.explanation import Explanation
from explainer.rendering import View, side_by_side, view
from explainer.rendering.views import percent, trust
from tests.explainer.rendering.odd import plain
from tests.explainer.test_explanation import example


def two(**options: object) -> View:
    maps = {"sig": plain(["a", "b"], [1.0, -2.0]), "lrp": plain(["a", "b"], [0.1, 0.0], method="lrp")}
    return side_by_side(maps, **options)


def strengths(shown: View, row: int) -> list[float]:
    return [piece.strength for column in shown.texts()[0] for piece in column.rows[row] if piece.score is not None]


def test_methods_have_their_own_scales_and_classes_share_one() -> None:
    assert (strengths(two(), 0), strengths(two(), 1)) == ([0.5, -1.0], [1.0, 0.0])
    assert strengths(two(shared=True), 1) == [0.05, 0.0]
    assert two().scale == "full colour: each map's own largest |score| (sig 2, lrp 0.1); none at zero"
    classes = side_by_side(
        [example(), example(target=0, target_label="bad", scores=[0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0])]
    )
    assert list(classes.maps) == ["good", "bad"]
    assert classes.scale == "full colour: |score| 2, the largest word of all 2 maps; none at zero"


def test_the_scale_is_of_the_level_that_is_shown() -> None:
    assert view(example()).scale == "full colour: |score| 2, this text's largest word; none at zero"
    assert view(example(), level="token").scale == "full colour: |score| 3, this text's largest token; none at zero"
    assert view(example(scores=[0.0] * 7)).scale == "no word has a score other than zero"


def test_labels_are_the_shortest_that_differ() -> None:
    assert list(side_by_side([example(), example(method="lrp")]).maps) == ["sig", "lrp"]
    both = [example(method=m, target_label=c) for m in ("sig", "lrp") for c in ("good", "bad")]
    assert list(side_by_side(both).maps) == ["sig, good", "sig, bad", "lrp, good", "lrp, bad"]
    assert list(side_by_side([example(), example()]).maps) == ["1. sig, good", "2. sig, good"]


def test_facts_name_target_method_and_another_prediction() -> None:
    assert view(example()).headings == [("", "good 75.0% · by sig")]
    other = example(target=0, target_label="bad")
    assert view(other).headings == [("", "bad 25.0% · by sig · predicted: class 1 75.0%")]
    assert side_by_side([other, example()]).headings[0][1].endswith("predicted: good 75.0%")
    assert two().headings == [("", "good 75.0%")]


class Trust(NamedTuple):
    sufficiency: float
    n_kept: int
    fallback: str | None = None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, []),
        (Trust(0.0312345, 4), ["sufficiency 0.0312", "n kept 4"]),
        ({"sufficiency": -0.5, "fallback": "attn_lrp"}, ["sufficiency -0.5", "fallback attn_lrp"]),
        (0.25, ["trust 0.25"]),
    ],
)
def test_trust_is_shown_where_there_is_one(value: object, shown: list[str]) -> None:
    unchecked = getattr(trust, "__wrapped__", trust)
    assert unchecked(SimpleNamespace(trust=value)) == shown


def test_maps_of_several_texts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`maps` must be explanations of one text, got 2 texts"):
        side_by_side([example(), example(text="Goodly plot")])
    with pytest.raises(ValueError, match=r"got 0 texts"):
        side_by_side([])


def test_percentages_are_never_certain() -> None:
    assert [percent(p) for p in (1.0, 0.99999, 0.5, 0.0001, 0.0)] == ["100.0%", ">99.9%", "50.0%", "<0.1%", "0.0%"]


def test_an_explanation_shows_itself_everywhere(
    tmp_path: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    explanation: Explanation = example()
    explanation.show(width=40)
    assert "+film" in capsys.readouterr().out
    assert "Goodly" in explanation._repr_html_()
    assert explanation.__rich__().maps == {"sig": explanation}
    path = f"{tmp_path}/page.html"
    explanation.to_html(path, level="token")
    with open(path, encoding="utf-8") as file:
        assert 'data-mark="##"' in file.read()
    assert explanation.plot(level="token").texts
