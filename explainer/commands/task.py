"""The options `--task` and `--prompt`: what the model is asked."""

from pathlib import Path
from typing import Literal

from explainer.explained import PromptedClassification

TaskName = Literal["prompted", "response", "image-classification"]
"""The tasks that a model's architecture does not tell, or whose inputs are no texts."""


def task_of_options(task: TaskName | None, prompt: Path | None) -> PromptedClassification | None:
    """The task of labels that the options name; None for that of the model's architecture.

    Raises:
        ValueError: when there is no such task, one option is given without the other, or the prompt is none.
    """
    if task == "response":
        raise ValueError(
            "`--task response` is of `explainer attribute`, `explainer evaluate` and `explainer compare` alone."
        )
    if task == "image-classification":
        raise ValueError("`--task image-classification` is of `explainer attribute` alone.")
    if task not in (None, "prompted"):
        raise ValueError(f"`--task` must be prompted or response, or be left out for a classifier, got {task!r}.")
    if (task is None) != (prompt is None):
        raise ValueError("`--task prompted` and `--prompt PROMPT.yaml` belong together: give both, or none of them.")
    return None if prompt is None else PromptedClassification.of(prompt)
