"""The prediction and the trust of a text's explanation as HTML."""

from collections.abc import Mapping, Sequence

from explainer.explanation import Explanation
from explainer.explanation.text import number, percent
from explainer.rendering.html import escaped

SHOWN = 10
"""The most labels that are listed."""


def prediction(explanation: Explanation, labels: Sequence[str]) -> str:
    """The probability of each label with a bar, the highest first; of a regression, its value."""
    if explanation.probabilities is None:
        return f'<p class="value">{_single(explanation)}</p>'
    named = zip(explanation.probabilities, labels, strict=True)
    order = sorted(named, key=lambda one: -one[0])
    rows = "".join(
        f'<li><span class="name" dir="auto">{escaped(label)}</span><span class="number">{percent(probability)}</span>'
        f'<span class="track"><span class="bar" style="width:{100 * probability:.1f}%"></span></span></li>'
        for probability, label in order[:SHOWN]
    )
    hidden = len(order) - SHOWN
    more = f'<p class="soft">and {hidden} further labels</p>' if hidden > 0 else ""
    return f'<ol class="labels">{rows}</ol>{more}'


def _single(explanation: Explanation) -> str:
    if explanation.predicted_label is None:
        return f"{escaped(explanation.target_label)} = <b>{_shown(explanation, explanation.value or 0.0)}</b>"
    return f"<b>{escaped(explanation.predicted_label)}</b>"


def trust_table(explanations: Mapping[str, Explanation]) -> str:
    """The target's probability on the whole text, without the highest tokens and on these alone, by each method."""
    first = next(iter(explanations.values()))
    what = "value" if first.probability is None else "probability"
    rows = "".join(
        f'<tr><th scope="row">{escaped(label)}</th>{"".join(f"<td>{cell}</td>" for cell in _cells(one))}</tr>'
        for label, one in explanations.items()
    )
    heads = ("method", "whole text", "without the top fifth", "the top fifth alone", "faithfulness")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f"<h2>Trust</h2><p>The {what} of {escaped(first.target_label)} on the text, without the fifth of its tokens "
        "that has the highest scores, and on that fifth alone. The more it falls without them, and the less on them "
        "alone, the better the scores agree with the prediction.</p>"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _cells(explanation: Explanation) -> list[str]:
    trust, probability = explanation.trust, explanation.probability
    assert trust is not None
    whole = (explanation.value or 0.0) if probability is None else probability
    values = (whole, whole - trust.comprehensiveness, whole - trust.sufficiency)
    return [*(_shown(explanation, value) for value in values), f"{trust.faithfulness:+.2f}".replace("-", "−")]


def _shown(explanation: Explanation, value: float) -> str:
    """A probability in percent, or a value."""
    if explanation.probability is None:
        return number(value).replace("-", "−")
    return percent(min(max(value, 0.0), 1.0))
