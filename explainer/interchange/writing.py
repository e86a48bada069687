"""Explanations as `shap.Explanation` and as a table of pandas."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.explanation import Explanation
from explainer.extras import import_optional


def to_shap(explanation: Explanation, *, words: bool = True) -> Any:
    """A `shap.Explanation` that `shap.plots.text` and `bar` draw: a value per word or token.

    Its base value is what the scores leave of the target's logit; it means the empty text's only for methods whose
    scores are complete.

    Raises:
        ModuleNotFoundError: when shap is not installed.
    """
    parts = explanation.words("sum" if words else "none")
    values = np.array([part.score for part in parts])
    pieces = np.array([explanation.texts[part.segment][part.start : part.end] for part in parts], dtype=object)
    base = 0.0 if explanation.value is None else explanation.value - float(values.sum())
    return import_optional("shap").Explanation(
        values=values,
        base_values=base,
        data=pieces,
        feature_names=list(pieces),
    )


def to_pandas(explanations: Sequence[Explanation], *, words: bool = True) -> Any:
    """A `pandas.DataFrame` with a row per word (or token): text, word, score, start, end, segment, target, method.

    `text` is the number of the explanation in the list.

    Raises:
        ModuleNotFoundError: when pandas is not installed.
    """
    rows = [
        {"text": i, **part._asdict(), "target": one.target_label, "method": one.method}
        for i, one in enumerate(explanations)
        for part in one.words("sum" if words else "none")
    ]
    names = ["text", "word", "score", "start", "end", "segment", "target", "method"]
    return import_optional("pandas").DataFrame(rows, columns=names)
