"""Explanations as a matplotlib figure: one line of coloured words a text."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from explainer.explanation import Explanation
from explainer.rendering.colour import colour, strengths

_LINE, _WIDTH = 0.32, 11.0  # inches
_CHARACTER = 0.088  # inches of one monospaced character at 9 points


def heatmap(explanations: Sequence[Explanation], labels: Sequence[str] | None = None) -> Figure:
    """Words on their colours, wrapped; before each text its label, or else its target and probability."""
    lines: list[tuple[float, float, str, tuple[float, float, float]]] = []
    y = 0.0
    shown = [_prediction(explanation) for explanation in explanations] if labels is None else list(labels)
    for explanation, label in zip(explanations, shown, strict=True):
        words = explanation.words()
        # Given labels are of the same text by several methods: equal words then stand below each other.
        start = (len(label if labels is None else max(labels, key=len)) + 2) * _CHARACTER
        lines.append((0.0, y, label, (1.0, 1.0, 1.0)))
        x = start
        for word, shade in zip(words, strengths([word.score for word in words]), strict=True):
            width = (len(word.word) + 1) * _CHARACTER
            if x + width > _WIDTH:
                x, y = start, y + _LINE
            red, green, blue = colour(shade)
            lines.append((x, y, word.word, (red / 255, green / 255, blue / 255)))
            x += width
        y += 1.4 * _LINE
    height = max(y, _LINE)
    figure = Figure(figsize=(_WIDTH, height))
    for x, top, text, background in lines:
        figure.text(
            x / _WIDTH,
            1 - (top + _LINE / 2) / height,
            text,
            family="monospace",
            size=9,
            va="center",
            bbox={"facecolor": background, "edgecolor": "none", "pad": 1.5},
        )
    return figure


def _prediction(explanation: Explanation) -> str:
    return f"{explanation.target_label} {explanation.probabilities[explanation.target]:.0%}"
