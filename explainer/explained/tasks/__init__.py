"""The tasks that are explained, and the one that a model is for.

A task is one file: a subclass of `AbstractTask`, and a row in `TASKS`.
"""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from explainer.explained.tasks.base import AbstractTask as AbstractTask
from explainer.explained.tasks.base import FoilLike as FoilLike
from explainer.explained.tasks.base import TargetLike as TargetLike
from explainer.explained.tasks.classification import TextClassification as TextClassification
from explainer.explained.tasks.image_classification import ImageClassification as ImageClassification
from explainer.explained.tasks.prompted import PromptedClassification as PromptedClassification
from explainer.explained.tasks.question_answering import QuestionAnswering as QuestionAnswering
from explainer.explained.tasks.response import Response as Response
from explainer.explained.tasks.token_classification import TokenClassification as TokenClassification
from explainer.explained.tasks.zero_shot import ZeroShotClassification as ZeroShotClassification

TEXT_TASKS: tuple[Any, ...] = (TextClassification, TokenClassification, QuestionAnswering)
"""The tasks of texts that a model's architecture tells."""

TASKS: dict[str, Any] = {task.head: task for task in (*TEXT_TASKS, ImageClassification)}
"""The task of each architecture, by the end of its class name; `task.of(model)` makes it from a loaded model."""


def task_of(model: PreTrainedModel) -> AbstractTask:
    """The task that a model is for, by its class name.

    Raises:
        ValueError: when no task reads this model's head.
    """
    name = type(model).__name__
    for ending, task in TASKS.items():
        if name.endswith(ending):
            return task.of(model)
    raise ValueError(
        f"`model` is a {name}, and no task reads its output. Models that end in {' or '.join(TASKS)} are explained as "
        "they are; a language model is asked by `task=PromptedClassification.of(prompt)` (`--task prompted --prompt "
        "PROMPT.yaml`), or explained in what it answers by `task=Response()` (`--task response`); for another one, "
        "pass `task`, an `AbstractTask` that says where its answer stands."
    )


def task_from(settings: Mapping[str, Any]) -> AbstractTask | None:
    """The task of an export's settings; None where the model's architecture tells it.

    Raises:
        ValueError: when the settings are of no such task.
    """
    name = settings.get("task")
    if name == Response.name:
        return Response()
    if name == ZeroShotClassification.name:
        return ZeroShotClassification.from_settings(settings)
    if name == QuestionAnswering.name:
        return QuestionAnswering(**{key: value for key, value in settings.items() if key != "task"})
    return PromptedClassification.from_settings(settings) if name == PromptedClassification.name else None
