"""The cost of a learned RPI baseline: one sample over one forward and backward pass of the explained model.

python benchmarks/sampling.py [--learned checkpoints/demo-rpi-baseline]

The pass is the model's own, on the same texts, with the gradient of a logit by the input embeddings.
"""

import torch
from attributor import texts_of
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from teachers import ratio

from explainer import ExplainedModel, TokenBatch
from explainer.explained import Target
from explainer.methods import InputXGradient
from explainer.methods.rpi.baselines import Learned, record_attention

BATCHES = {32: 16, 128: 4, 256: 1, 448: 1}  # tokens: texts


def cost(explained: ExplainedModel, learned: Learned, batch: TokenBatch, rounds: int) -> float:
    input_gradient, target = InputXGradient(), Target.of([0] * len(batch))
    with record_attention(explained, batch, learned.diffusion.layers) as (state, *_):
        pass  # outside, the pass is the model's own
    return ratio(lambda: learned(state, 0, 0), lambda: input_gradient.scores(explained, batch, target), rounds)


def main(
    model: str = "checkpoints/demo-classifier",
    learned: str = "checkpoints/demo-rpi-baseline",
    rounds: int = 11,
    threads: int = 2,
) -> None:
    """Measure and print.

    Args:
        model: the explained model.
        learned: folder of a baseline learned for it.
        rounds: paired rounds; the median is shown.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    explained, baseline = ExplainedModel.from_pretrained(model), Learned.load(learned)
    table = Table("tokens", "texts", "a sample over a forward and a backward pass")
    for length, n in BATCHES.items():
        times = cost(explained, baseline, texts_of(explained, n, length), rounds)
        table.add_row(str(length), str(n), f"{times:.2f}")
    Console().print(table)


if __name__ == "__main__":
    auto_cli(main)
