"""Model cards: what an exported folder is, from which data and recipe, with which scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from explainer.export.hub import card_head, usage

_METRICS = ("aopc_comprehensiveness", "aopc_sufficiency", "faithfulness")


def explainer_card(
    checkpoint: dict[str, Any], name: str, scores: Sequence[dict[str, Any]] | None, license: str = "apache-2.0"
) -> str:
    """The card of an exported mask explainer; `name` is its folder or hub id."""
    explained = checkpoint["hyper_parameters"]["explained"]
    lines = [
        *card_head("token-attribution", explained, license),
        *usage(name, explained),
        "",
        *_training(checkpoint),
        "## Test scores",
        "",
        *_scores(scores),
        "## Limits",
        "",
        "The scores explain this classifier, not the world. On texts unlike those it was trained on their",
        "faithfulness is not known: measure it with `explainer evaluate`. It works only with the model it was",
        "trained for; the loader checks.",
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
        "texts without content: where paths of randomized path integration start.",
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
    """The card of a fine-tuned classifier's adapter."""
    recipe = checkpoint["hyper_parameters"]
    lines = [
        *card_head("text-classification", recipe["base"], license),
        f"# {folder.name}",
        "",
        f"A LoRA adapter that makes `{recipe['base']}` a classifier of {', '.join(recipe['labels'])}.",
        "",
        *_training(checkpoint),
    ]
    return "\n".join(lines) + "\n"


def _training(checkpoint: dict[str, Any]) -> list[str]:
    """Data and recipe: what retrains this folder."""
    recipe = {"model": checkpoint["hyper_parameters"], "data": checkpoint.get("datamodule_hyper_parameters", {})}
    clean = {part: {k: v for k, v in values.items() if not k.startswith("_")} for part, values in recipe.items()}
    return [
        "## Data and recipe",
        "",
        f"{checkpoint['epoch'] + 1} epochs, {checkpoint['global_step']} steps. To retrain it, put this into a"
        " configuration beside those in `configs/` and run `explainer fit --config FILE`, then `explainer export`:",
        "",
        "```yaml",
        yaml.safe_dump(clean, sort_keys=False, width=110).strip(),
        "```",
        "",
    ]


def _scores(scores: Sequence[dict[str, Any]] | None) -> list[str]:
    if not scores:
        return [
            "Not measured. `explainer test` measures them; `explainer export --scores comparison.json` tells them.",
            "",
        ]
    lines = [
        f"Held-out test split, n = {scores[0]['n']} texts, 95 % bootstrap intervals;",
        "faithfulness = AOPC-comprehensiveness minus AOPC-sufficiency.",
        "",
        "| method | AOPC-comprehensiveness ↑ | AOPC-sufficiency ↓ | faithfulness ↑ | forward passes |",
        "|---|---|---|---|---|",
    ]
    for row in scores:
        cells = [f"{row[m]['mean']:.3f} [{row[m]['ci95'][0]:.3f}, {row[m]['ci95'][1]:.3f}]" for m in _METRICS]
        lines.append(f"| {row['method']} | {' | '.join(cells)} | {row['forward_equivalents']:.1f} |")
    return [*lines, ""]
