"""The tables of README and documentation that are written from files of results.

python benchmarks/tables.py

A page marks the place by `<!-- table: NAME -->` and `<!-- end -->`; what stands between them is written.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from explainer.evaluation.table import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
REFERENCES = ("attn_lrp", "matched")
"""Rows of models.json that trained explainers are compared with, text by text."""


def interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


OF_README = {
    "side": ("**Amortex, side explainer**", "prediction + demo-side"),
    "attn_lrp": ("AttnLRP", "attn_lrp"),
    "sig": ("SIG", "sig"),
    "integrated_gradients": ("integrated gradients, 50 steps", "integrated_gradients"),
    "random": ("random scores", None),
}
"""{row of shipped.json: its name in README, its row of bench.json}."""


def shipped() -> str:
    """README's table: faithfulness of the shipped explainer and of other methods, and what they take."""
    found, ratios = _read("shipped.json"), {row["name"]: row["ratio"] for row in _read("bench.json")["rows"]}
    head = [f"{found['texts']:,} test texts of Rotten Tomatoes", "faithfulness (95 % interval)", "time / prediction"]
    rows = [
        [title, interval(found["rows"][label]), "" if timed is None else f"{ratios[timed]:.3g}"]
        for label, (title, timed) in OF_README.items()
    ]
    return markdown_table(head, rows)


def models(operator: str) -> str:
    """Faithfulness of the methods and the side explainer on every model, by one operator; of `reproduce.py`."""
    found = _read("models.json")["models"].values()
    labels = dict.fromkeys(label for one in found for label, value in one[operator].items() if "seeds" not in value)
    head = ["model", "accuracy", *(f"`{label}`" for label in (*labels, "side"))]
    rows = [
        [
            one["title"],
            f"{one['accuracy']:.2f}",
            *(interval(one[operator][label]) if label in one[operator] else "" for label in (*labels, "side")),
        ]
        for one in found
    ]
    return markdown_table(head, rows)


def trained(operator: str) -> str:
    """The trained explainers of every model: mean over seeds, each seed, and paired differences."""
    rows = []
    for one in _read("models.json")["models"].values():
        for label, value in one[operator].items():
            if "seeds" in value:
                seeds = ", ".join(f"{seed:.3f}" for seed in value["seeds"])
                less = [interval(value["less"][name]) if name in value["less"] else "" for name in REFERENCES]
                rows.append([one["title"], f"`{label}`", interval(value), seeds, *less])
    head = ["model", "explainer", "faithfulness", "seeds", *(f"less `{name}`" for name in REFERENCES)]
    return markdown_table(head, rows)


def sanity() -> str:
    """Rank correlations of scores before and after a change."""
    rows = [
        [one["title"], f"`{label}`", *(interval(value) for value in values.values())]
        for one in _read("models.json")["models"].values()
        for label, values in one["sanity"].items()
    ]
    return markdown_table(["model", "method", "head", "and all layers", "and embeddings", "other label"], rows)


def models_of() -> str:
    """What the models were measured with."""
    found = _read("models.json")
    return (
        f"Size {found['size']}: {found['texts']} test texts, explainers of {found['train']} texts, {found['seeds']} "
        f"seeds; {found['versions']}."
    )


def cost() -> str:
    """What every row of the benchmark takes, over the prediction."""
    found = _read("bench.json")
    body = [
        [f"`{row['name']}`", f"{row['ratio']:.2f}", " to ".join(f"{q:.2f}" for q in row["quartiles"])]
        for row in found["rows"]
    ]
    return markdown_table(["what", "times the prediction", "quartiles"], body)


def cost_of() -> str:
    """What the benchmark ran on."""
    found = _read("bench.json")
    machine = found["machine"]
    return (
        f"{found['texts']} texts of {found['tokens']:.0f} tokens on average, {machine['threads']} threads "
        f"({machine['processor']}, {machine['instructions']}); {found['versions']}."
    )


TABLES: dict[str, Callable[[], str]] = {
    **{f"models, {operator}": partial(models, operator) for operator in ("delete", "replace")},
    **{f"trained, {operator}": partial(trained, operator) for operator in ("delete", "replace")},
    "shipped": shipped,
    "sanity": sanity,
    "models, run": models_of,
    "cost": cost,
    "cost, machine": cost_of,
}

PLACE = re.compile(r"(<!-- table: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with its tables as the files of results have them."""
    return PLACE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[4]}", text)


def pages() -> list[Path]:
    """README and documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> None:
    """Write the tables of all pages."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            page.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
