"""Faithfulness against cost: one marker per method, 95 % intervals, the Pareto front, bounds as lines."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from explainer.rendering.colour import AGAINST, FOR

INK = "#010203"  # of text and axes; a page replaces this colour by its own
_FRONT, _OTHER = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (FOR, AGAINST))
_SIDES = [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)]


@dataclass(frozen=True)
class Point:
    """One method: its cost per text, its faithfulness with a 95 % interval, and whether it is a bound."""

    label: str
    cost: float
    mean: float
    low: float
    high: float
    bound: bool = False


def front(points: Sequence[Point]) -> list[Point]:
    """The methods that no other beats in faithfulness at their cost or less, from the cheapest up; bounds are left out.

    >>> a, b, c = Point("a", 1.0, 0.1, 0.0, 1.0), Point("b", 2.0, 0.0, 0.0, 1.0), Point("c", 3.0, 0.3, 0.0, 1.0)
    >>> [point.label for point in front([c, b, a])]
    ['a', 'c']
    """
    best: list[Point] = []
    for point in sorted((p for p in points if not p.bound), key=lambda p: (p.cost, -p.mean)):
        if not best or point.mean > best[-1].mean:
            best.append(point)
    return best


def pareto(points: Sequence[Point], cost: str = "milliseconds per text", faithfulness: str = "comp − suff") -> Figure:
    """The picture. The axis of costs is logarithmic, and linear below 1 where a cost is 0."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _axes(axes, points, cost, faithfulness)
    best = front(points)
    steps: dict[str, Any] = {"where": "post", "color": _FRONT, "lw": 1.2, "zorder": 1, "label": "Pareto front"}
    axes.step([p.cost for p in best], [p.mean for p in best], gid="front", **steps)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK)
    for point in points:
        if point.bound:
            _bound(axes, point, cost)
        else:
            _marker(axes, point, _FRONT if point in best else _OTHER)
    figure.canvas.draw()  # lays everything out, so that the free room for labels is known
    figure.set_layout_engine("none")
    _label(axes, points)
    return figure


def svg(figure: Figure) -> str:
    """The figure as SVG text; equal figures give equal text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "amortex", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()


def _axes(axes: Axes, points: Sequence[Point], cost: str, faithfulness: str) -> None:
    costs = [point.cost for point in points if not point.bound] or [1.0]
    low, high = min(costs), max(costs)
    if low > 0:
        axes.set_xscale("log")
        room = max(high / low, 10.0) ** 0.12
        axes.set_xlim(low / room, high * room)
    else:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlim(-0.4, max(high, 1.0) * 2)
    axes.margins(y=0.12)
    axes.set_xlabel(f"{cost} (lower is better)", color=INK)
    axes.set_ylabel(f"{faithfulness}, with 95 % intervals (higher is better)", color=INK)
    axes.tick_params(which="both", colors=INK)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))


def _marker(axes: Axes, point: Point, colour: str) -> None:
    name = f"method {point.label}"
    spread = [[point.mean - point.low], [point.high - point.mean]]
    style: dict[str, Any] = {"marker": "o" if colour == _FRONT else "s", "ms": 7, "capsize": 3, "zorder": 3}
    axes.errorbar([point.cost], [point.mean], yerr=spread, color=colour, **style)[0].set_gid(name)


def _bound(axes: Axes, point: Point, cost: str) -> None:
    axes.axhspan(point.low, point.high, color=_OTHER, alpha=0.12, lw=0)
    axes.axhline(point.mean, color=_OTHER, ls="--", lw=1.2, gid=f"bound {point.label}")
    style: dict[str, Any] = {
        "xycoords": axes.get_yaxis_transform(),
        "textcoords": "offset points",
        "va": "bottom",
        "color": INK,
    }
    axes.annotate(f"{point.label}: {point.cost:,.1f} {cost}", (0.01, point.mean), (0, 2), size=9, **style)


def _label(axes: Axes, all_points: Sequence[Point]) -> None:
    """Put each label next to its marker, or further out with a line where there is no room, so that no two overlap."""
    points = [point for point in all_points if not point.bound]
    taken = [_box(text) for text in axes.texts]
    taken += [_around(axes, point) for point in points] + _steps(axes, front(points))
    taken += [_across(axes, point.mean) for point in all_points if point.bound]
    taken += [legend.get_window_extent() for legend in [axes.get_legend()] if legend is not None]
    inside = axes.get_window_extent().frozen()
    for point in sorted(points, key=lambda p: (p.cost, p.mean)):
        chosen = None
        for distance in range(8, 240, 8):
            tried = [_annotated(axes, point, x * distance, y * distance) for x, y in _SIDES]
            clear = [text for text in tried if _is_clear(text, taken, inside)]
            chosen = clear[0] if clear else None
            for text in tried:
                if text is not chosen:
                    text.remove()
            if chosen is not None:
                break
        chosen = chosen or _annotated(axes, point, 8, 8)
        taken.append(_box(chosen))


def _annotated(axes: Axes, point: Point, x: int, y: int) -> Annotation:
    line = {"arrowstyle": "-", "color": INK, "lw": 0.5, "shrinkB": 4}
    horizontal = {1: "left", 0: "center", -1: "right"}[(x > 0) - (x < 0)]
    vertical = {1: "bottom", 0: "center", -1: "top"}[(y > 0) - (y < 0)]
    return axes.annotate(
        point.label,
        (point.cost, point.mean),
        (x, y),
        textcoords="offset points",
        ha=horizontal,
        va=vertical,
        size=9,
        color=INK,
        arrowprops=line if max(abs(x), abs(y)) > 16 else None,
    )


def _is_clear(text: Text, taken: Sequence[Bbox], inside: Bbox) -> bool:
    box = _box(text)
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    return bool(within) and not any(box.overlaps(other) for other in taken)


def _box(text: Text) -> Bbox:
    """The pixels of the words, without the line to the marker."""
    if isinstance(text, Annotation):
        canvas = cast(FigureCanvasAgg, cast(Figure, text.get_figure(root=True)).canvas)
        text.update_positions(canvas.get_renderer())
    return Text.get_window_extent(text)


def _around(axes: Axes, point: Point) -> Bbox:
    """The pixels of a marker and its interval."""
    (x, low), (_, high) = axes.transData.transform([(point.cost, point.low), (point.cost, point.high)])
    return Bbox([[x - 8, low - 2], [x + 8, high + 2]])


def _across(axes: Axes, height: float) -> Bbox:
    """The pixels of a bound's line."""
    inside = axes.get_window_extent().frozen()
    y = float(axes.transData.transform((1.0, height))[1])
    return Bbox([[inside.x0, y - 2], [inside.x1, y + 2]])


def _steps(axes: Axes, best: Sequence[Point]) -> list[Bbox]:
    """The pixels of the front's line."""
    corners = [(point.cost, point.mean) for point in best]
    pixels = axes.transData.transform(corners).tolist() if corners else []
    boxes: list[Bbox] = []
    for (x, y), (right, top) in itertools.pairwise(pixels):
        boxes += [Bbox([[x, y - 2], [right, y + 2]]), Bbox([[right - 2, y], [right + 2, top]])]
    return boxes
