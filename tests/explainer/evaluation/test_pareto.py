"""The picture of faithfulness against cost: one marker per method, bounds as lines, labels apart."""

import itertools
import random
import re

import pytest
from matplotlib.text import Annotation

from explainer.evaluation.pareto import Point, _box, front, pareto, svg


def points(n: int, seed: int = 0) -> list[Point]:
    generator = random.Random(seed)
    made = []
    for i in range(n):
        mean = generator.choice([-0.1, 0.1, 0.28, 0.3]) + generator.gauss(0, 0.01)
        made.append(Point(f"method_number_{i}", 10 ** generator.uniform(-1, 3), mean, mean - 0.02, mean + 0.02))
    return made


def test_one_marker_per_method_and_one_line_per_bound() -> None:
    bound = Point("greedy (bound)", 900.0, 0.5, 0.48, 0.52, bound=True)
    drawn = svg(pareto([*points(5), bound]))
    assert len(re.findall(r'<g id="method method_number_\d">', drawn)) == 5
    assert drawn.count('<g id="bound greedy (bound)">') == 1
    assert drawn.count('<g id="method greedy') == 0
    texts = [text.get_text() for text in pareto([*points(5), bound]).axes[0].texts]
    assert "greedy (bound): 900.0 milliseconds per text" in texts


def test_the_front_is_what_nothing_cheaper_beats_and_never_a_bound() -> None:
    some = points(20)
    best = front([*some, Point("bound", 0.01, 0.9, 0.9, 0.9, bound=True)])
    assert "bound" not in {point.label for point in best}
    for point in some:
        beaten = any(other.cost <= point.cost and other.mean > point.mean for other in some)
        assert (point in best) != beaten


@pytest.mark.parametrize("n", [1, 2, 12, 24])
def test_labels_do_not_overlap_and_stay_inside(n: int) -> None:
    figure = pareto([*points(n), Point("bound", 900.0, 0.31, 0.2, 0.4, bound=True)])
    (axes,) = figure.axes
    boxes = [_box(text) for text in axes.texts if isinstance(text, Annotation)]
    assert len(boxes) == n + 1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    inside = axes.get_window_extent()
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_costs_are_on_a_logarithmic_axis_that_may_hold_zero() -> None:
    assert pareto(points(3)).axes[0].get_xscale() == "log"
    assert pareto([*points(3), Point("free", 0.0, 0.1, 0.0, 0.2)]).axes[0].get_xscale() == "symlog"


def test_the_same_figure_gives_the_same_svg() -> None:
    assert svg(pareto(points(3))) == svg(pareto(points(3)))


def test_intervals_are_drawn_to_scale() -> None:
    figure = pareto([Point("a", 1.0, 0.5, 0.2, 0.6)])
    (container,) = figure.axes[0].containers
    (_, _, (bars,)) = container
    assert bars.get_segments()[0].tolist() == [[1.0, pytest.approx(0.2)], [1.0, pytest.approx(0.6)]]
