"""`explainer attribute`: texts to attributions, JSON lines in and out; or one text in the terminal."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from explainer.attributor import Attributor, CallOptions
from explainer.attributor.inputs import TextInput
from explainer.commands.device import device
from explainer.commands.jsonl import CHUNK, InputError, read_texts
from explainer.explained import ExplainedModel
from explainer.explained.readout import Score
from explainer.explained.tasks import AbstractTask
from explainer.explanation import Explanation
from explainer.methods import METHODS
from explainer.methods.loading import is_exported
from explainer.rendering import side_by_side
from explainer.rendering.progress import Progress
from explainer.scored_text import UnitLevel, check_aggregation


@dataclass(frozen=True)
class Request:
    """One line of IN.jsonl; `target` is the line's own, if it has one."""

    line: int
    input: TextInput
    id: Any
    target: str | int | None


def attribute(
    method: str,
    model: str | None = None,
    input: Path | None = None,
    output: Path | None = None,
    text: str | None = None,
    target: str | int = "predicted",
    foil: str | int | None = None,
    score: Score = "logit",
    units: UnitLevel | None = None,
    batch_tokens: int = 4096,
    method_args: dict[str, Any] | None = None,
    trust: bool = False,
    fallback: str | None = None,
    min_faithfulness: float | None = None,
    aggregation_strategy: str | None = None,
    html: Path | None = None,
) -> None:
    """Explain texts: one JSON object per line in, one per line out, in the same order; or one text in the terminal.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        input: JSON lines with `text`, and optionally `text_pair`, `id`, `target`.
        output: JSON lines with id, tokens, input_ids, offsets, scorable, scores, target, target_label,
            probabilities, method, probability, value, predicted_label; token_type_ids, foil_label, score where there
            are any; and trust, units, words where they are asked for.
        text: instead of input and output: one text, whose explanation is printed in colour.
        target: predicted, a label or an index, or all: one line out per label, each with the line's id. A line's own
            `target` comes first.
        foil: explain why the target rather than this label or index; runner_up is the most probable other one.
        score: the number that is explained: logit, log_prob or log_odds of the target, less the foil's.
        units: score whole words, sentences or paragraphs; also writes `units`, their scores.
        batch_tokens: token budget of a forward pass.
        method_args: settings of the method, as JSON.
        trust: also write what deleting and keeping the top tokens does to the prediction.
        fallback: a method's name, for texts whose faithfulness is below `min_faithfulness`; implies `trust`.
        min_faithfulness: comprehensiveness minus sufficiency, at a fifth of the tokens.
        aggregation_strategy: also write `words`, their scores by sum, average, max or first (none: the tokens).
        html: with text: a page to write as well, which opens offline.
    """
    if (text is None) == (input is None):
        raise ValueError("Give `--text TEXT`, or `--input IN.jsonl --output OUT.jsonl`.")
    if input is not None and output is None:
        raise ValueError("`--input` needs `--output OUT.jsonl` too.")
    if html is not None and text is None:
        raise ValueError("`--html OUT.html` shows one text: give it by `--text TEXT`.")
    if aggregation_strategy is not None:
        check_aggregation(aggregation_strategy)
    options: dict[str, Any] = {"foil": foil, "score": score, "units": units, "trust": trust}
    options |= {"fallback": CallOptions.of(fallback, min_faithfulness).fallback}
    attributor = load(method, model, batch_tokens, method_args or {})
    job = _Job(attributor, target, options, aggregation_strategy)
    job.check(target)
    if text is not None:
        _show(job.explanations([Request(1, TextInput(text), 0, None)])[0], html)
        return
    assert input is not None
    assert output is not None
    job.run(input, output)


def load(method: str, model: str | None, batch_tokens: int, settings: dict[str, Any]) -> Attributor:
    """An attributor from a method's name and a model, or from an exported folder or hub id; on the command's device."""
    if method not in METHODS and is_exported(method):
        if settings:
            raise ValueError("`--method-args` are for named methods; an exported attributor has its own settings.")
        return Attributor.from_pretrained(method, model=model, batch_tokens=batch_tokens).to(device())
    if model is None:
        raise ValueError(f"`--method {method}` needs `--model`, the model to explain.")
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    return Attributor.of(explained, method, **settings).to(device())


def _show(explanations: Sequence[Explanation], html: Path | None) -> None:
    """One target's explanation, or those of all labels below each other."""
    shown = explanations[0].view() if len(explanations) == 1 else side_by_side(explanations)
    shown.show()
    if html is not None:
        shown.to_html(html)


@dataclass(frozen=True)
class _Job:
    """An attributor and the options that it explains every line with."""

    attributor: Attributor
    target: str | int
    options: dict[str, Any]
    aggregation: Any

    def check(self, target: str | int) -> None:
        """Refuse a target that is unknown, or that is the foil."""
        if target != "all":
            task: AbstractTask = self.attributor.explained.task
            task.target(target, 1, self.options["foil"], self.options["score"])

    def run(self, source: Path, output: Path) -> None:
        """Explain a file. The lines before one that cannot be used are written; then that line is named."""
        with source.open("rb") as lines:
            total = sum(1 for _ in lines)
        requests = self._requests(source)
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w") as file, Progress(self.attributor.method.name, total) as progress:
            unusable: InputError | None = None
            while unusable is None:
                chunk: list[Request] = []
                try:
                    for request in islice(requests, CHUNK):
                        chunk.append(request)  # one by one, so that an unusable line leaves those before it
                except InputError as error:
                    unusable = error
                if not chunk and unusable is None:
                    return
                try:
                    by_request = self.explanations(chunk)
                except ValueError as error:
                    raise ValueError(f"{source}, lines {chunk[0].line} to {chunk[-1].line}: {error}") from error
                for request, explanations in zip(chunk, by_request, strict=True):
                    for explanation in explanations:
                        file.write(json.dumps(self._record(request, explanation), ensure_ascii=False) + "\n")
                file.flush()
                progress.advance(len(chunk))
            raise unusable

    def _requests(self, source: Path) -> Iterator[Request]:
        for number, record in read_texts(source):
            target = record.get("target")
            if isinstance(target, bool) or not isinstance(target, str | int | None):
                raise InputError(source, number, f"`target` must be a label or an index, got {target!r}.")
            if target is not None:
                try:
                    self.check(target)
                except ValueError as error:
                    raise InputError(source, number, error) from error
            texts = TextInput(record["text"], record.get("text_pair"))
            yield Request(number, texts, record.get("id", number - 1), target)

    def explanations(self, requests: Sequence[Request]) -> list[list[Explanation]]:
        """Each request's explanations: of its own target, of the command's, or of all labels."""
        explained: dict[int, list[Explanation]] = {}
        targets = [self.target if request.target is None else request.target for request in requests]
        every = [i for i, target in enumerate(targets) if target == "all"]
        one = [i for i, target in enumerate(targets) if target != "all"]
        for places, wanted in ((every, {"targets": "all"}), (one, {"target": [targets[i] for i in one]})):
            texts, pairs = ([getattr(requests[i].input, name) for i in places] for name in ("text", "text_pair"))
            results: list[Any] = self.attributor(texts, pairs, **wanted, **self.options)
            for i, result in zip(places, results, strict=True):
                explained[i] = [result] if isinstance(result, Explanation) else list(result.values())
        return [explained[i] for i in range(len(requests))]

    def _record(self, request: Request, explanation: Explanation) -> dict[str, Any]:
        record = {"id": request.id, **explanation.record()}
        if self.options["units"] is not None:
            record["units"] = [unit._asdict() for unit in explanation.units()]
        if self.aggregation is not None:
            record["words"] = [word._asdict() for word in explanation.words(self.aggregation)]
        return record
