"""The options `--task`, `--prompt` and `--labels`: what the model is asked."""

from pathlib import Path
from typing import Any, Literal

from explainer.explained import AbstractTask, PromptedClassification, ZeroShotClassification

TaskName = Literal["prompted", "zero-shot-classification", "response", "image-classification"]
"""The tasks that a model's architecture does not tell, or whose inputs are no texts."""


def task_of_options(
    task: TaskName | None,
    prompt: Path | None,
    labels: str | None = None,
    hypothesis_template: str | None = None,
    multi_label: bool = False,
) -> AbstractTask | None:
    """The task of labels that the options name; None for that of the model's architecture.

    Args:
        labels: of zero-shot classification, with commas between.

    Raises:
        ValueError: when there is no such task, one option is given without the other, or the prompt is none.
    """
    if task == "response":
        raise ValueError(
            "`--task response` is of `explainer attribute`, `explainer evaluate` and `explainer compare` alone."
        )
    if task == "image-classification":
        raise ValueError("`--task image-classification` is of `explainer attribute` alone.")
    if task not in (None, "prompted", "zero-shot-classification"):
        raise ValueError(
            "`--task` must be prompted, zero-shot-classification or response, or be left out for a classifier, got "
            f"{task!r}."
        )
    if (task == "prompted") != (prompt is not None):
        raise ValueError("`--task prompted` and `--prompt PROMPT.yaml` belong together: give both, or none of them.")
    if (task == "zero-shot-classification") != (labels is not None):
        raise ValueError(
            "`--task zero-shot-classification` and `--labels a,b,c` belong together: give both, or none of them."
        )
    if labels is None:
        if hypothesis_template is not None or multi_label:
            raise ValueError("`--hypothesis-template` and `--multi-label` are of `--task zero-shot-classification`.")
        return None if prompt is None else PromptedClassification.of(prompt)
    names = [label.strip() for label in labels.split(",")]
    template: dict[str, Any] = {} if hypothesis_template is None else {"hypothesis_template": hypothesis_template}
    return ZeroShotClassification.of(names, multi_label=multi_label, **template)
