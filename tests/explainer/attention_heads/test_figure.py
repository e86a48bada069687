"""The picture of heads by relation."""

from explainer.attention_heads import HeadMask
from explainer.attention_heads.figure import heads_by_relation


def test_a_panel_a_relation_and_one_for_the_offset_with_the_kept_heads_framed() -> None:
    statistics = {
        "n_tokens": 40,
        "offset": [[1, 0], [-1, 2]],
        "offset_share": [[0.9, 0.1], [0.2, 0.3]],
        "relations": {"obj": {"n": 12, "baseline": 0.25, "hits": [[0.5, 0.0], [0.25, 1.0]]}},
    }
    figure = heads_by_relation(HeadMask([[1.0, 0.0], [0.0, 1.0]], statistics=statistics))
    panels = figure.axes[:2]
    assert [axes.get_title() for axes in panels] == [
        "obj, n = 12\nhits above 0.25",
        "one offset, n = 40\nshare",
    ]
    assert panels[0].images[0].get_array().tolist() == [[0.25, -0.25], [0.0, 0.75]]
    assert all([patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 0.5)] for axes in panels)
