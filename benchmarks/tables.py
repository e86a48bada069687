"""The tables of README and documentation that are written from files of results.

python benchmarks/tables.py

A page marks the place by `<!-- table: NAME -->` and `<!-- end -->`; what stands between them is written.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explainer.evaluation.table import markdown_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def models(results: Mapping[str, Any], operator: str) -> str:
    """Faithfulness of every model's methods, by one operator; of the results of `reproduce.py`."""
    found = results["models"].values()
    labels = list(next(iter(found))[operator])
    head = ["method", *(f"{one['title']}; accuracy {one['accuracy']:.2f}" for one in found)]
    body = [[f"`{label}`" if "_" in label or label in ("random", "sig") else f"**{label}**"] for label in labels]
    for row, label in zip(body, labels, strict=True):
        row += [interval(one[operator][label]) for one in found]
    seeds = [
        "its seeds",
        *(", ".join(f"{value:.3f}" for value in one[operator]["side explainer"]["seeds"]) for one in found),
    ]
    less = ["less `attn_lrp`", *(interval(one[operator]["side explainer"]["difference"]) for one in found)]
    return markdown_table(head, [*body, seeds, less])


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
