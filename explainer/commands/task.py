"""What the model is asked, by options: `--task`, `--prompt`, `--labels`, `--scorable`. And the lines of its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from explainer.data.jsonl import check_text, read_objects
from explainer.data.lines import InputError
from explainer.explained import (
    AbstractTask,
    ImageClassification,
    PromptedClassification,
    QuestionAnswering,
    TokenClassification,
    ZeroShotClassification,
)
from explainer.explained.tasks.anchored import is_span
from explainer.explained.tasks.question_answering import ScoredPart
from explainer.faithfulness.perturbation import Operator

TaskName = Literal[
    "prompted",
    "zero-shot-classification",
    "response",
    "question-answering",
    "token-classification",
    "image-classification",
]
"""The tasks that an option names; a model's architecture tells the last three by itself."""

IMAGE_OPERATOR: Operator = "replace"
"""How metrics of images take patches out by default: a deleted patch leaves a hole, which not every family takes."""


def task_of_options(
    task: TaskName | None,
    prompt: Path | None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
    scorable: ScoredPart | None = None,
) -> AbstractTask | None:
    """The task that the options name; None for that of the model's architecture.

    Args:
        labels: of zero-shot classification, with commas between.

    Raises:
        ValueError: when there is no such task, options do not go together, or the prompt is none.
    """
    if task == "response":
        raise ValueError(
            "`--task response` is of `explainer attribute`, `explainer evaluate`, `explainer compare` and `explainer "
            "demo` alone."
        )
    if task == ImageClassification.name:
        raise ValueError(
            "`--task image-classification` is of `explainer attribute`, `explainer evaluate` and `explainer compare` "
            "alone."
        )
    names = ("prompted", ZeroShotClassification.name, QuestionAnswering.name, TokenClassification.name)
    if task is not None and task not in names:
        raise ValueError(
            f"`--task` must be one of {', '.join(names)}, response, or be left out for a classifier, got {task!r}."
        )
    if (task == "prompted") != (prompt is not None):
        raise ValueError("`--task prompted` and `--prompt PROMPT.yaml` belong together: give both, or none of them.")
    if (task == ZeroShotClassification.name) != (labels is not None):
        raise ValueError(
            "`--task zero-shot-classification` and `--labels a,b,c` belong together: give both, or none of them."
        )
    if labels is None and (hypothesis_template is not None or multi_label):
        raise ValueError("`--hypothesis-template` and `--multi-label` are of `--task zero-shot-classification`.")
    if scorable is not None and task != QuestionAnswering.name:
        raise ValueError("`--scorable` is of `--task question-answering`.")
    if prompt is not None:
        return PromptedClassification.of(prompt)
    if labels is not None:
        template: dict[str, Any] = {} if hypothesis_template is None else {"hypothesis_template": hypothesis_template}
        return ZeroShotClassification.of(
            [label.strip() for label in labels.split(",")], multi_label=multi_label, **template
        )
    if task == QuestionAnswering.name:
        return QuestionAnswering() if scorable is None else QuestionAnswering(scorable)
    return TokenClassification() if task == TokenClassification.name else None


class Columns(NamedTuple):
    """What the text, its pair and the target are called in the lines of a file."""

    text: str = "text"
    text_pair: str = "text_pair"
    target: str = "target"


def columns_of(task: AbstractTask) -> Columns:
    """The names in the lines of a task's files."""
    return Columns("question", "context", "answer") if isinstance(task, QuestionAnswering) else Columns()


class TextLine(NamedTuple):
    """A line of a file: a text, its pair, what is explained of it, and its id, where it has them."""

    number: int
    text: str
    text_pair: str | None
    target: Any
    id: Any


def read_lines_of(task: AbstractTask, source: Path) -> Iterator[TextLine]:
    """The texts of a file of JSON lines.

    Raises:
        InputError: when a line cannot be used.
    """
    names = columns_of(task)
    for number, record in read_objects(source):
        check_text(source, number, record, names.text, required=True)
        check_text(source, number, record, names.text_pair, required=isinstance(task, QuestionAnswering))
        target = record.get(names.target)
        spans = task.anchored and is_span(target)
        if isinstance(target, bool) or not (isinstance(target, str | int | None) or spans):
            kinds = "[start, end], a part of the text or 'all'" if task.anchored else "a label or an index"
            raise InputError(source, number, f"`{names.target}` must be {kinds}, got {target!r:.60}.")
        yield TextLine(number, record[names.text], record.get(names.text_pair), target, record.get("id", number - 1))
