"""Layouts: labels, scales and headings."""

import pytest

from explainer.explanation import Explanation, Trust
from explainer.rendering.layout import Heading, Layout, labels_of
from explainer.scored_text import ScoredText
from tests.explainer.explanation.test_text import REGRESSION, example
from tests.explainer.rendering.odd import plain


def layout(*explanations: ScoredText, **options: object) -> Layout:
    return Layout(dict(zip(labels_of(explanations), explanations, strict=True)), **options)  # type: ignore[arg-type]


def two(**options: object) -> Layout:
    methods = (plain(["a", "b"], [1.0, -2.0]), plain(["a", "b"], [0.1, 0.0], method="lrp"))
    return layout(*methods, **options)


def other(**changes: object) -> Explanation:
    """The explanation of the class that is not predicted."""
    return example(**({"target": 0, "target_label": "bad", "probability": 0.25} | changes))


def strengths(shown: Layout, row: int) -> list[float]:
    return [piece.strength for column in shown.texts()[0] for piece in column.rows[row] if piece.score is not None]


def test_methods_have_their_own_scales_and_classes_share_one() -> None:
    assert (strengths(two(), 0), strengths(two(), 1)) == ([0.5, -1.0], [1.0, 0.0])
    assert strengths(two(shared=True), 1) == [0.05, 0.0]
    assert two().scale == "full colour: the largest |score| of each (sig 2, lrp 0.1); none at zero"
    classes = layout(example(), other(scores=[0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))
    assert list(classes.scored) == ["good", "bad"]
    assert classes.scale == "full colour: |score| 2, the largest word of all 2; none at zero"


def test_the_scale_is_of_the_level_that_is_shown() -> None:
    assert layout(example()).scale == "full colour: |score| 2, this text's largest word; none at zero"
    assert layout(example(), level="token").scale == "full colour: |score| 3, this text's largest token; none at zero"
    assert layout(example(scores=[0.0] * 7)).scale == "no word has a score other than zero"


def test_labels_are_the_shortest_that_differ() -> None:
    assert labels_of([example(), example(method="lrp")]) == ["sig", "lrp"]
    both = [example(method=m, target_label=c) for m in ("sig", "lrp") for c in ("good", "bad")]
    assert labels_of(both) == ["sig, good", "sig, bad", "lrp, good", "lrp, bad"]
    assert labels_of([example(), example()]) == ["1. sig, good", "2. sig, good"]


def test_foils_tell_targets_apart() -> None:
    foils = [example(foil_label=label) for label in ("bad", "dull")]
    assert labels_of(foils) == ["good rather than bad", "good rather than dull"]


def test_headings_have_target_method_and_another_prediction() -> None:
    assert layout(example()).headings == [Heading("", "good 75.0%", ("by sig",))]
    assert layout(other()).headings == [Heading("", "bad 25.0%", ("by sig", "predicted: good 75.0%"))]
    assert layout(other(), example()).headings == [
        Heading("", "bad 25.0%", ("by sig", "predicted: good 75.0%")),
        Heading("", "good 75.0%", ("by sig",)),
    ]


def test_labels_stand_where_the_headings_differ_and_one_heading_is_enough_where_they_do_not() -> None:
    assert two().headings == [Heading("", "good 75.0%", ())]
    trusted = example(method="lrp", trust=Trust(0.5, 0.25))
    assert layout(example(), trusted).headings == [
        Heading("sig", "good 75.0%", ()),
        Heading("lrp", "good 75.0%", ("comprehensiveness 0.5", "sufficiency 0.25")),
    ]


def test_a_scored_text_without_a_caption_can_be_laid_out() -> None:
    bare = ScoredText(
        text="a b",
        text_pair=None,
        tokens=["a", "b"],
        offsets=[(0, 1), (2, 3)],
        scorable=[True, True],
        words_of_tokens=[0, 1],
        segments=[0, 0],
        scores=[1.0, -2.0],
    )
    assert strengths(Layout({"": bare}), 0) == [0.5, -1.0]


def test_the_target_of_the_colours_is_named_where_there_is_one() -> None:
    assert two().target == "good"
    assert layout(example(), other()).target == "the class"
    values = [example(**REGRESSION), example(**(REGRESSION | {"target": 1, "target_label": "length"}))]
    assert layout(*values).target == "the value"


def test_the_title_is_the_target_and_the_start_of_the_text() -> None:
    assert layout(plain(["word"] * 30, [1.0] * 30)).title == f"good: {'word ' * 12}"


def test_scores_of_several_texts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`explanations` must be of one text, got 2 texts"):
        layout(example(), example(text="Goodly plot", method="lrp"))
    with pytest.raises(ValueError, match=r"got 0 texts"):
        layout()
