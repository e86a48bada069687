"""The demo of models that answer with labels, values, tags or a span: a text in, its prediction and scores out."""

from typing import Any

from explainer.attributor import Attributor, CallOptions
from explainer.attributor.numbering import without_number
from explainer.attributor.units import with_units
from explainer.demo.base import AbstractDemo
from explainer.demo.elements import checkbox, further, line, select, textarea
from explainer.demo.fields import Fields
from explainer.demo.prediction import prediction, trust_table
from explainer.explained import EncodedText, QuestionAnswering
from explainer.explanation import Explanation
from explainer.rendering import side_by_side
from explainer.rendering.html import fragment

UNITS = ("token", "word", "sentence", "paragraph")


class TextDemo(AbstractDemo[Attributor]):
    """The demo of an `Attributor`."""

    question = "Which words made the model predict this?"

    # The form

    def form(self, fields: Fields) -> str:
        return "".join(
            [
                self._texts(fields),
                self._target(fields),
                self.beside(fields),
                select("units", "Scores per", [(unit, unit) for unit in UNITS], fields.one("units", UNITS[0])),
                checkbox("trust", "Measure trust", fields.is_checked("trust", at_first=True)),
            ]
        )

    def _texts(self, fields: Fields) -> str:
        text, pair, limit = fields.one("text"), fields.one("text_pair"), self.limits.characters
        focus = "required" if fields.were_sent else "required autofocus"
        if self._asks:
            question = textarea("text", "Question", text, rows=2, limit=limit, more=focus)
            return question + textarea("text_pair", "Context", pair, rows=8, limit=limit, more="required")
        first = textarea("text", "Text", text, rows=6, limit=limit, more=focus)
        second = textarea("text_pair", "Second text", pair, rows=3, limit=limit, hint="For a classifier of pairs.")
        return first + further("a second text", second, bool(pair))

    def _target(self, fields: Fields) -> str:
        """The choice of what is explained, and of what it is contrasted with."""
        task, limit = self.attributor.explained.task, self.limits.characters
        if task.anchored:
            hint = f"A part of the {'context' if self._asks else 'text'} that occurs once; empty: the predicted one."
            return line("target", "Explain", fields.one("target"), limit=limit, hint=hint)
        labels = [(str(i), label) for i, label in enumerate(task.labels)]
        if len(labels) == 1:
            return ""
        predicted = [] if task.link == "identity" else [("predicted", "the predicted label")]
        first = (predicted or labels)[0][0]
        target = select("target", "Explain", [*predicted, *labels], fields.one("target", first))
        if not self.contrasts:
            return target
        foils = [("", "nothing"), ("runner_up", "the most probable other label"), *labels]
        return target + select("foil", "Rather than", foils, fields.one("foil"))

    @property
    def _asks(self) -> bool:
        return isinstance(self.attributor.explained.task, QuestionAnswering)

    # The answer

    def answer(self, fields: Fields) -> str:
        try:
            return self._answer(fields)
        except ValueError as error:
            raise ValueError(without_number(error)) from error

    def _answer(self, fields: Fields) -> str:
        options, text = self._options(fields), self._encoded(fields)
        attributors = {self.attributor.method.label: self.attributor}
        attributors |= {label: self.others[label] for label in self.chosen(fields)}
        found = {label: self._explained(label, one, text, options) for label, one in attributors.items()}
        first = next(iter(found.values()))
        parts = ["<h2>Prediction</h2>", prediction(first, self.attributor.explained.labels), "<h2>Explanation</h2>"]
        parts.append(fragment(first.view() if len(found) == 1 else side_by_side(found), style=False))
        return "".join(parts) + (trust_table(found) if options.trust else "")

    def _options(self, fields: Fields) -> CallOptions:
        units = fields.choice("units", UNITS, UNITS[0])
        target, foil = fields.one("target") or "predicted", fields.one("foil") or None
        return CallOptions(
            target=self._index(target),
            foil=None if foil is None else self._index(foil),
            units=None if units == UNITS[0] else units,  # type: ignore[arg-type]
            trust=fields.is_checked("trust"),
        )

    def _index(self, choice: str) -> Any:
        """The index of a label, as the form sends it; anything else the task knows, or refuses."""
        anchored = self.attributor.explained.task.anchored
        return int(choice) if choice.isdecimal() and choice.isascii() and not anchored else choice

    def _encoded(self, fields: Fields) -> EncodedText:
        text, pair = fields.one("text"), fields.one("text_pair")
        self.limits.check_characters(text, pair)
        if not text.strip():
            raise ValueError("`text` is empty: type a text.")
        return self.attributor.explained.encode([text], [pair or None])[0]

    def _explained(self, label: str, attributor: Attributor, text: EncodedText, options: CallOptions) -> Explanation:
        (united,) = with_units([text], options.units)
        self.limits.check_passes(label, attributor.method.forward_equivalents(len(united.unit_masks)))
        (explanation,) = attributor.explain([united], options)
        return explanation
