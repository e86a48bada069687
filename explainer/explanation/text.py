"""The explanation of one text: its scores, the target that they are for, and the model's answer."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.explained.readout import NO_QUESTION, Readout
from explainer.rendering import View, view
from explainer.scored_text import Caption, ScoredText
from explainer.typing import TokenScores

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class Trust:
    """The effect of deleting and of keeping a text's highest scored tokens on the target.

    Its numbers are differences of the target's probability; of a regression, differences of the predicted value, in
    the value's own unit.

    Attributes:
        comprehensiveness: p(whole text) - p(those tokens deleted): high when they were needed.
        sufficiency: p(whole text) - p(those tokens alone): low when they are enough.
    """

    comprehensiveness: float
    sufficiency: float

    @property
    def faithfulness(self) -> float:
        """Comprehensiveness minus sufficiency: high when the scores agree with the prediction they explain."""
        return self.comprehensiveness - self.sufficiency


@dataclass(frozen=True, kw_only=True)
class Explanation(ScoredText):
    """Scores for every token of one text.

    Attributes:
        target: index of what is explained; of an entity, or of the answer to a question, its [start, end] characters.
        target_label: its name.
        probabilities: of every label, on the whole text; None where there are none (a regression), or no closed list
            of labels.
        method: name of the method or of the explainer, with everything needed to read its scores (a fallback, a
            best-of).
        trust: how well the scores agree with the prediction, where that was asked for.
        token_type_ids: where the model reads them.
        probability: of the target; None for a regression.
        value: the target's logit, or the predicted value of a regression.
        predicted_label: the name of the most probable label; None for a regression.
        foil_label: the name of what the target is contrasted with.
        score: the number that is explained: `logit`, `log_prob` or `log_odds`.
        asked: of an entity or an answer, what asks for it again: `anchors`, the mark of every token, and `choices`, one
            index per question.
    """

    input_ids: list[int]
    target: int | list[int]
    target_label: str
    probabilities: list[float] | None
    method: str
    trust: Trust | None = None
    token_type_ids: list[int] | None = None
    probability: float | None = None
    value: float | None = None
    predicted_label: str | None = None
    foil_label: str | None = None
    score: str = "logit"
    asked: dict[str, list[int]] | None = None

    @classmethod
    def of(
        cls,
        explained: ExplainedModel,
        text: EncodedText,
        scores: TokenScores,
        target: Target,
        readout: Readout,
        method: str,
    ) -> "Explanation":
        """The explanation of an encoded text by its scores.

        Args:
            target: of this one text; the stand-ins for the predicted label and the runner-up are resolved.
            readout: the model's answer to this one text, on the CPU.
            method: the method's label.
        """
        target = target.to("cpu").resolved(readout)
        ids, types = text.tokens.input_ids.tolist(), text.tokens.token_type_ids
        task = explained.task
        choices = [choice for choice in target.choices[0].tolist() if choice != NO_QUESTION]
        foil = None if target.foil is None else target.foil[0, : len(choices)].tolist()
        probabilities = readout.probabilities
        return cls(
            text=text.text,
            text_pair=text.text_pair,
            tokens=list(explained.tokenizer.convert_ids_to_tokens(ids)),
            input_ids=ids,
            offsets=list(text.offsets),
            scorable=text.scorable.tolist(),
            words_of_tokens=list(text.words),
            segments=list(text.segments),
            scores=scores.tolist(),
            units_of_tokens=None if text.units is None else list(text.units),
            target=task.shown(choices, text),
            target_label=task.describe(choices, text),
            probabilities=None if probabilities is None or len(choices) > 1 else probabilities[0, 0].tolist(),
            method=method,
            token_type_ids=None if types is None else types.tolist(),
            probability=None if probabilities is None else float(readout.probability(target)),
            value=float(readout.value(target)),
            predicted_label=None
            if probabilities is None
            else task.describe(task.predicted(text, readout)[: len(choices)], text),
            foil_label=None if foil is None else task.describe(foil, text),
            score=target.score,
            asked=task.record(choices, text),
        )

    def record(self) -> dict[str, Any]:
        """The JSON-able record that `explainer attribute` writes, without its id.

        It has `anchors` and `choices` of an entity or an answer, `token_type_ids` where the model reads them,
        `foil_label` and `score` where the target is contrasted or scored by another number than its logit, and `trust`
        where that was asked for.
        """
        names = ["tokens", "input_ids", "offsets", "scorable", "scores", "target", "target_label", "probabilities"]
        names += ["method", "probability", "value", "predicted_label"]
        names += ["token_type_ids"] if self.token_type_ids is not None else []
        names += ["foil_label"] if self.foil_label is not None else []
        names += ["score"] if self.score != "logit" or self.foil_label is not None else []
        record = {name: getattr(self, name) for name in names} | (self.asked or {})
        if self.trust is not None:
            record["trust"] = {**asdict(self.trust), "faithfulness": self.trust.faithfulness}
        return record

    @property
    def caption(self) -> Caption:
        """The target and its number, another prediction, and trust."""
        contrast = "" if self.foil_label is None else f" rather than {self.foil_label}"
        return Caption(
            target=self.target_label + contrast,
            headline=self._headline() + contrast,
            method=self.method,
            remarks=tuple(self._remarks()),
            kind="value" if self._target_probability is None else "class",
        )

    def _headline(self) -> str:
        probability = self._target_probability
        if probability is not None:
            return f"{self.target_label} {percent(probability)}"
        return self.target_label if self.value is None else f"{self.target_label} = {number(self.value)}"

    def _remarks(self) -> list[str]:
        remarks = [] if self.score == "logit" else [f"score: {self.score}"]
        if (probability := self._target_probability) is not None and self.probabilities is not None:
            best = max(range(len(self.probabilities)), key=self.probabilities.__getitem__)
            # In a multi-label task this label is predicted itself from one half on, whatever the others have.
            if self.probabilities[best] > probability and probability < 0.5:
                label = f"class {best}" if self.predicted_label is None else self.predicted_label
                remarks.append(f"predicted: {label} {percent(self.probabilities[best])}")
        if self.trust is not None:
            remarks += [f"{name} {value:.3g}" for name, value in asdict(self.trust).items()]
        return remarks

    @property
    def _target_probability(self) -> float | None:
        """`probability`; where it was not stored (shards of format 1), that of the target among `probabilities`."""
        if self.probability is None and self.probabilities is not None and isinstance(self.target, int):
            return self.probabilities[self.target]
        return self.probability

    # Showing it

    def view(self, **options: Any) -> View:
        """What can be shown anywhere; options as of `explainer.rendering.View`: level, max_words."""
        return view(self, **options)

    def show(self, width: int | None = None, **options: Any) -> None:
        """Print in colour; `width` in columns, options as of `view`."""
        self.view(**options).show(width)

    def to_html(self, path: str | Path, **options: Any) -> None:
        """Write a page that opens offline; options as of `view`."""
        self.view(**options).to_html(path)

    def plot(self, **options: Any) -> "matplotlib.figure.Figure":
        """A matplotlib figure; options as of `view`."""
        return self.view(**options).plot()

    def _repr_html_(self) -> str:
        return self.view()._repr_html_()

    def __rich__(self) -> View:
        return self.view()


def percent(probability: float) -> str:
    """To a tenth of a percent; never 100 or 0 where it is not.

    >>> percent(0.9999), percent(0.75)
    ('>99.9%', '75.0%')
    """
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def number(value: float) -> str:
    """To three digits, all of them before the point where there are more.

    >>> number(3.2149), number(-0.00123), number(12345.6)
    ('3.21', '-0.00123', '12,346')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
