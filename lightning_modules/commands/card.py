"""Model cards: the kind of an exported folder, its data and recipe, its scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult

from explainer.evaluation.comparison import SUMMARY
from explainer.evaluation.responses import ResponseComparison
from explainer.explained import QuestionAnswering, TextClassification, TokenClassification
from explainer.export.hub import card_head, usage
from explainer.faithfulness.measures import summary_metrics
from explainer.methods.trained.amortized import Amortized


def explainer_card(
    checkpoint: dict[str, Any], name: str, scores: Sequence[dict[str, Any]] | None, license: str = "apache-2.0"
) -> str:
    """The card of an exported mask explainer; `name` is its folder or hub id."""
    explained = checkpoint["hyper_parameters"]["explained"]
    lines = [
        *card_head("token-attribution", explained, license, Path(name).name, eval_results(checkpoint, scores)),
        *usage(name, explained, str(checkpoint.get("amortex_module", "")).endswith(".ResponseTraining")),
        "",
        *_training(checkpoint),
        "## Test scores",
        "",
        *explainer_scores(scores),
        "## Limits",
        "",
        "The scores explain this model, not the world. On texts unlike those of the training their faithfulness",
        "is not known: measure it with `explainer evaluate`. The explainer works only with the model that it was",
        "trained for, which is checked when it is loaded.",
    ]
    return "\n".join(lines) + "\n"


def baseline_card(checkpoint: dict[str, Any], folder: Path, license: str = "apache-2.0") -> str:
    """The card of a learned baseline of RPI."""
    recipe = checkpoint["hyper_parameters"]
    lines = [
        *card_head("token-attribution", recipe["explained"], license),
        f"# {folder.name}",
        "",
        f"A diffusion over the attention of `{recipe['explained']}` (blocks {recipe['layers']}), trained by Amortex on",
        "texts whose content is masked. Paths of randomized path integration (RPI) start from its samples.",
        "",
        "```bash",
        f"explainer compare --model {recipe['explained']} --methods rpi \\",
        f"""  --method-args '{{"rpi": {{"baseline": "{folder}"}}}}' ...""",
        "```",
        "",
        *_training(checkpoint),
    ]
    return "\n".join(lines) + "\n"


def classifier_card(checkpoint: dict[str, Any], folder: Path, license: str = "apache-2.0") -> str:
    """The card of a fine-tuned model: an adapter, or a small model that was trained from nothing."""
    recipe = checkpoint["hyper_parameters"]
    task, small = recipe.get("task", TextClassification.name), recipe.get("small")
    what = {
        TextClassification.name: f"a classifier of {', '.join(recipe['labels'])}",
        TokenClassification.name: f"a model that tags words as {', '.join(recipe['labels'])}",
        QuestionAnswering.name: "a model that answers questions by a span of a context",
    }[task]
    made = (
        f"A small model that was trained from nothing on the words of `{small['words_of']}`: {what}."
        if small
        else f"A LoRA adapter that makes `{recipe['base']}` {what}."
    )
    return _model_card(checkpoint, card_head(task, None if small else recipe["base"], license), folder, made)


def image_classifier_card(checkpoint: dict[str, Any], folder: Path, license: str = "apache-2.0") -> str:
    """The card of a small vision transformer that was trained from nothing."""
    recipe = checkpoint["hyper_parameters"]
    head = {"license": license, "pipeline_tag": "image-classification", "library_name": "transformers"}
    made = f"A small {recipe['architecture']['model_type']} that tells {', '.join(recipe['labels'])} apart."
    return _model_card(checkpoint, ["---", yaml.safe_dump(head).strip(), "---"], folder, made)


def fresh_card(checkpoint: dict[str, Any], folder: Path, license: str = "apache-2.0") -> str:
    """The card of a small classifier of texts or pairs, or of a small language model."""
    recipe = checkpoint["hyper_parameters"]
    kind, labels = recipe["architecture"]["model_type"], recipe.get("labels")
    task = TextClassification.name if labels else "text-generation"
    does = f"tells {', '.join(labels)} apart" if labels else "answers with one word"
    made = f"A small {kind}, trained from nothing, that {does}."
    return _model_card(checkpoint, card_head(task, None, license), folder, made)


def _model_card(checkpoint: dict[str, Any], head: Sequence[str], folder: Path, made: str) -> str:
    """The card of a model to be explained.

    Args:
        head: the metadata.
        made: what it is and does, in a sentence.
    """
    return "\n".join([*head, f"# {folder.name}", "", made, "", *_training(checkpoint)]) + "\n"


def _training(checkpoint: dict[str, Any]) -> list[str]:
    """Data and recipe, complete enough to train the folder again."""
    recipe = {"model": checkpoint["hyper_parameters"], "data": checkpoint.get("datamodule_hyper_parameters", {})}
    clean = {part: {k: v for k, v in values.items() if not k.startswith("_")} for part, values in recipe.items()}
    return [
        "## Data and recipe",
        "",
        f"{checkpoint['epoch'] + 1} epochs, {checkpoint['global_step']} steps. To train it again, put this into a"
        " configuration like those in `configs/` and run `explainer fit --config FILE`, then `explainer export`:",
        "",
        "```yaml",
        yaml.safe_dump(clean, sort_keys=False, width=110).strip(),
        "```",
        "",
    ]


def eval_results(checkpoint: dict[str, Any], scores: Sequence[dict[str, Any]] | None) -> list[EvalResult]:
    """The explainer's own row of comparison.json in the hub's form: one result per metric, with its interval."""
    data = checkpoint.get("datamodule_hyper_parameters", {})
    source = str(data.get("name") or "local files")
    own = next((record for record in scores or [] if record["method"] == Amortized.name), {})
    operators = own.get("operators", {})
    results = []
    for name in own.keys() & {*operators, SUMMARY}:
        arguments = {"n": own["n"], "ci95": [round(bound, 4) for bound in own[name]["ci95"]]}
        result = EvalResult(
            task_type="token-attribution",
            dataset_type=source,
            dataset_name=source,
            dataset_split="test",
            metric_type=name,
            metric_value=round(own[name]["mean"], 4),
            metric_args=arguments | ({"operator": operators[name]} if name in operators else {}),
        )
        results.append(result)
    return sorted(results, key=lambda result: result.metric_type)


def explainer_scores(scores: Sequence[dict[str, Any]] | None) -> list[str]:
    """The lines of a card about the records of comparison.json."""
    if not scores:
        return [
            "Not measured. `explainer test` measures them, and `explainer export --scores comparison.json` writes them",
            "here.",
            "",
        ]
    if ResponseComparison.summary in scores[0]:
        metrics: tuple[str, ...] = ("drop_at_1", "drop_at_3", ResponseComparison.summary)
        noun, meaning = "responses", "drops of the response's log-probability are in nats."
        names = ("drop@1 ↑", "drop@3 ↑", "LDS ↑")
    else:
        metrics = (*summary_metrics(scores[0]), SUMMARY)
        of_what = "" if metrics[0].startswith("aopc") else " of the predicted value"
        noun, meaning = "texts", f"faithfulness = AOPC-comprehensiveness minus AOPC-sufficiency{of_what}."
        names = ("AOPC-comprehensiveness ↑", "AOPC-sufficiency ↓", "faithfulness ↑")
    lines = [
        f"Held-out test split, n = {scores[0]['n']} {noun}, 95 % bootstrap intervals;",
        meaning,
        "",
        f"| method | {' | '.join(names)} | forward passes |",
        "|---|---|---|---|---|",
    ]
    for record in scores:
        values = [record[metric] for metric in metrics]
        intervals = [f"{v['mean']:.3f} [{v['ci95'][0]:.3f}, {v['ci95'][1]:.3f}]" for v in values]
        lines.append(f"| {record['method']} | {' | '.join(intervals)} | {record['forward_equivalents']:.1f} |")
    return [*lines, ""]
