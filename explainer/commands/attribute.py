"""`explainer attribute`: texts to attributions, JSON lines in and out; or one text in the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explainer.attributor import Attributor, CallOptions
from explainer.attributor.numbering import without_number
from explainer.attributor.units import with_units
from explainer.commands.encoding import encode_one
from explainer.commands.images import attribute_images
from explainer.commands.loading import load_attributor, of_texts
from explainer.commands.outputs import check_apart, json_lines, usable_chunks
from explainer.commands.response import attribute_file, refuse_options
from explainer.commands.task import TaskName, columns_of, read_lines_of, task_of_options
from explainer.data.lines import InputError, count_lines
from explainer.explained import EncodedText
from explainer.explained.pretrained import dtype_named
from explainer.explained.readout import Score
from explainer.explained.sources import SourceLevel
from explainer.explained.tasks.question_answering import ScoredPart
from explainer.explanation import Explanation
from explainer.rendering import side_by_side
from explainer.rendering.progress import Progress
from explainer.scored_text import UnitLevel, check_aggregation
from explainer.storage.atomic import replacing

CHUNK = 256
"""The number of lines that are explained at once."""


@dataclass(frozen=True)
class Request:
    """One text to explain; `target` is the line's own, if it has one.

    Attributes:
        place: where the text comes from, for errors.
    """

    place: str
    text: EncodedText
    id: Any = None
    target: str | int | list[int] | None = None


def attribute(
    method: str,
    model: str | None = None,
    input: Path | None = None,
    output: Path | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    context: str | None = None,
    target: str | int | list[int] = "predicted",
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
    task: TaskName | None = None,
    prompt: Path | None = None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    scorable: ScoredPart | None = None,
    sources: SourceLevel | None = None,
    max_new_tokens: int = 128,
    dtype: str | None = None,
) -> None:
    """Explain texts: one JSON object per line in, one per line out, in the same order; or one text in the terminal.

    Args:
        method: a method's name, or the folder or hub id of an exported attributor.
        model: the explained model: hub id, model folder or PEFT adapter folder. An attributor names its own.
        input: JSON lines with `text`, and optionally `text_pair`, `id`, `target`; of questions with `question`,
            `context`, and optionally `id`, `answer`, [start, end] characters of the context.
        output: another file; it gets its name when all lines are explained, or those before a line that cannot be. JSON
            lines with id, tokens, input_ids, offsets, scorable, scores, target, target_label,
            probabilities, method, probability, value, predicted_label; token_type_ids, foil_label, score where there
            are any; anchors, choices of entities and answers; and trust, units, words where they are asked for.
        text: instead of input and output: one text, whose explanation is printed in colour.
        text_pair: with text: its second text, for a classifier of pairs.
        context: with text: the context of that question.
        target: predicted, a label or an index, or all: one line out per label, each with the line's id. Of tagged words
            and of answers: predicted, [start, end] characters, or a part of the text (context) that occurs once; all
            are the predicted entities. A line's own `target` (`answer`) comes first.
        foil: explain why the target rather than this label or index; runner_up is the most probable other one.
        score: the number that is explained: logit, log_prob or log_odds of the target, less the foil's.
        units: score whole words, sentences or paragraphs; also writes `units`, their scores.
        batch_tokens: token budget of a forward pass.
        method_args: settings of the method, as JSON.
        trust: also write what deleting and keeping the top tokens does to the prediction; of a response, what deleting
            the top sources does.
        fallback: a method's name, for texts whose faithfulness is below `min_faithfulness`; implies `trust`.
        min_faithfulness: comprehensiveness minus sufficiency, at a fifth of the tokens.
        aggregation_strategy: also write `words`, their scores by sum, average, max or first (none: the tokens).
        html: with text, or of images: a page to write as well, which opens offline.
        task: prompted, for a language model that is asked by `prompt`; zero-shot-classification, for a model of natural
            language inference (NLI) that is asked for `labels`; response, for one whose answers are explained:
            then `input` has `prompt` or `messages`, and optionally `response` (else it is generated), `span`, `token`,
            `foil`, `id`, and `output` has id, response, span, target_tokens, log_probability, sources, contract,
            method, and trust where that is asked for; question-answering or token-classification, which a model's
            architecture tells as well; image-classification: then `input` has `image`, a path, and optionally `id`,
            `target`, and `output` has the scores of the patches row by row, and their rows and columns as patches. By
            default it is that of the model's architecture.
        prompt: YAML with template or messages, labels, and optionally shots and calibration.
        labels: of zero-shot classification, with commas between.
        hypothesis_template: of zero-shot classification: "This example is {}." by default.
        multi_label: of zero-shot classification: several labels may hold at once.
        scorable: of questions: score the tokens of both (the default), of the context or of the question.
        sources: of responses: score every token (the default), word, sentence or paragraph of the prompt as one.
        max_new_tokens: of responses: the longest one that is generated.
        dtype: of the explained model's weights: float32, bfloat16 or float16; float32 by default, of an exported
            attributor that of its training. Gradients want float32.
    """
    precision = None if dtype is None else dtype_named(dtype, "--dtype")
    if task == "response":
        refuse_options(
            {"text": text, "text_pair": text_pair, "labels": labels, "hypothesis_template": hypothesis_template}
            | {"multi_label": multi_label, "foil": foil, "units": units, "fallback": fallback, "html": html}
            | {"target": None if target == "predicted" else target, "prompt": prompt}
            | {"context": context, "scorable": scorable}
            | {"min_faithfulness": min_faithfulness, "aggregation_strategy": aggregation_strategy},
            task,
        )
        if input is None or output is None or model is None:
            raise ValueError("`--task response` needs `--model MODEL --input IN.jsonl --output OUT.jsonl`.")
        check_apart({"input": input}, {"output": output})
        attribute_file(
            method,
            model,
            input,
            output,
            sources=sources or "token",
            score=score,
            trust=trust,
            max_new_tokens=max_new_tokens,
            dtype=precision,
            batch_tokens=batch_tokens,
            settings=method_args or {},
        )
        return
    if task == "image-classification":
        refuse_options(
            {"text": text, "text_pair": text_pair, "context": context, "units": units, "fallback": fallback}
            | {"min_faithfulness": min_faithfulness, "aggregation_strategy": aggregation_strategy, "prompt": prompt}
            | {"labels": labels, "hypothesis_template": hypothesis_template, "multi_label": multi_label}
            | {"scorable": scorable, "sources": sources},
            task,
        )
        if input is None or output is None:
            raise ValueError("`--task image-classification` needs `--input IN.jsonl --output OUT.jsonl`.")
        if isinstance(target, list):
            raise ValueError(f"`--target` of an image is a label or an index, got {target}.")
        check_apart({"input": input}, {"output": output, "html": html})
        attribute_images(
            method,
            model,
            input,
            output,
            target=target,
            options=CallOptions.of(foil=foil, score=score, trust=trust),
            html=html,
            batch_tokens=batch_tokens,
            dtype=precision,
            settings=method_args or {},
        )
        return
    if sources is not None:
        raise ValueError("`--sources` is of `--task response`; the units of a text are `--units`.")
    if (text is None) == (input is None):
        raise ValueError("Give `--text TEXT`, or `--input IN.jsonl --output OUT.jsonl`.")
    if input is not None and output is None:
        raise ValueError("`--input` needs `--output OUT.jsonl` too.")
    if context is not None and text is None:
        raise ValueError("`--context` is that of the question `--text TEXT`.")
    if html is not None and text is None:
        raise ValueError("`--html OUT.html` shows one text: give it by `--text TEXT`.")
    if text_pair is not None and text is None:
        raise ValueError(
            "`--text-pair TEXT` is the second text of `--text TEXT`; the lines of a file have `text_pair`."
        )
    check_apart({"input": input}, {"output": output})
    if aggregation_strategy is not None:
        check_aggregation(aggregation_strategy)
    options = CallOptions.of(fallback, min_faithfulness, foil=foil, score=score, units=units, trust=trust)
    asked = task_of_options(task, prompt, labels, hypothesis_template, multi_label, scorable)
    attributor = load_attributor(method, model, batch_tokens, method_args or {}, asked, precision)
    job = _Job(of_texts(method, attributor), target, options, aggregation_strategy)
    job.check(target)
    if text is not None:
        request = Request("`--text`", encode_one(job.attributor.explained, text, text_pair or context, "`--text`"))
        (explanations,) = job.explanations([request])
        if not explanations:
            raise ValueError("`--target all`: the model predicts no entity in this text.")
        _show(explanations, html)
        return
    assert input is not None
    assert output is not None
    job.run(input, output)


def _show(explanations: Sequence[Explanation], html: Path | None) -> None:
    """One target's explanation, or those of all labels below each other."""
    shown = explanations[0].view() if len(explanations) == 1 else side_by_side(explanations)
    shown.show()
    if html is not None:
        with replacing(html) as name:
            shown.to_html(name)


@dataclass(frozen=True)
class _Job:
    """An attributor and the options that it explains every line with."""

    attributor: Attributor
    target: str | int | list[int]
    options: CallOptions
    aggregation: Any

    def check(self, target: str | int | list[int]) -> None:
        """Refuse a target that is unknown, or that is the foil."""
        if target != "all":
            self.attributor.explained.task.check_target(target, self.options.foil, self.options.score)

    def run(self, source: Path, output: Path) -> None:
        """Explain a file. The lines before one that cannot be used are written; then that line is named."""
        requests = self._requests(source)
        with Progress(self.attributor.method.name, count_lines(source)) as progress, json_lines(output) as write:
            for chunk in usable_chunks(requests, CHUNK):
                for request, explanations in self._explained(chunk):
                    for explanation in explanations:
                        write(self._record(request, explanation))
                progress.advance(len(chunk))

    def _requests(self, source: Path) -> Iterator[Request]:
        explained = self.attributor.explained
        for line in read_lines_of(explained.task, source):
            if line.target is not None:
                try:
                    self.check(line.target)
                except ValueError as error:
                    raise InputError(source, line.number, error) from error
            place = f"{source}, line {line.number}"
            yield Request(place, encode_one(explained, line.text, line.text_pair, place), line.id, line.target)

    def _explained(self, chunk: Sequence[Request]) -> Iterator[tuple[Request, list[Explanation]]]:
        """Each request of a chunk with its explanations; after an error one by one, to name the line."""
        try:
            yield from zip(chunk, self.explanations(chunk), strict=True)
            return
        except ValueError:
            pass
        for request in chunk:
            try:
                (explanations,) = self.explanations([request])
            except ValueError as error:
                named = without_number(error).replace(
                    "`target`", f"`{columns_of(self.attributor.explained.task).target}`"
                )
                raise ValueError(f"{request.place}: {named}") from error
            yield request, explanations

    def explanations(self, requests: Sequence[Request]) -> list[list[Explanation]]:
        """Each request's explanations: of its own target, of the command's, or of all labels."""
        explained: dict[int, list[Explanation]] = {}
        targets = [self.target if request.target is None else request.target for request in requests]
        every = [i for i, target in enumerate(targets) if target == "all"]
        one = [i for i, target in enumerate(targets) if target != "all"]
        for places, wanted in ((every, {"targets": "all"}), (one, {"target": [targets[i] for i in one]})):
            texts = with_units([requests[i].text for i in places], self.options.units)
            results = self.attributor.explain(texts, replace(self.options, **wanted))
            for i, result in zip(places, results, strict=True):
                explained[i] = [result] if isinstance(result, Explanation) else list(result.values())
        return [explained[i] for i in range(len(requests))]

    def _record(self, request: Request, explanation: Explanation) -> dict[str, Any]:
        record = {"id": request.id, **explanation.record()}
        if self.options.units is not None:
            record["units"] = [unit._asdict() for unit in explanation.units()]
        if self.aggregation is not None:
            record["words"] = [word._asdict() for word in explanation.words(self.aggregation)]
        return record
