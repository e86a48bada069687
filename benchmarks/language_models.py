"""Time of explaining one response, in forward passes, beside captum, ContextCite and AT2, in one run.

python benchmarks/language_models.py [--n_facts 12] [--repeats 3] [--dtype float32]

For the other packages, in a folder of their own:

pip install --target FOLDER context-cite at2 && PYTHONPATH=.:FOLDER python benchmarks/language_models.py

The prompt is one message, `Context: ... Query: ...`, of made-up facts and a question about one of them. The response is
the model's own, greedy, of 12 tokens at most, and all of it is explained. The sources are the facts, one each. Every
row is the median time of a call (on a processor, its own time) over that of a forward pass over prompt and response;
`passes` is what the model read, in tokens over those of the forward pass, without backward passes. What is not
installed is said to be so.
"""

import contextlib
import copy
import io
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from captum import attr
from jsonargparse import auto_cli

from explainer import ExplainedModel, load_method
from explainer.data.planted import planted_prompt
from explainer.explained import ExplainedResponse, Response, explain_response
from explainer.methods.responses import attribute_responses

Call = Callable[[], Any]


class Asked:
    """One response of the model, and the parts that the other packages want."""

    def __init__(self, explained: ExplainedModel, n_facts: int, seed: int) -> None:
        context, self.query = planted_prompt(random.Random(seed), n_facts, n_facts).text.split("\n\n")
        self.facts = [f"{fact.strip('.')}." for fact in context.split(". ")]
        self.context = " ".join(self.facts)
        content = f"Context: {self.context}\n\nQuery: {self.query}"
        ranges, place = [], 0
        for fact in self.facts:
            start = content.index(fact, place)
            place = start + len(fact)
            ranges.append((0, start, place))
        self.messages = [{"role": "user", "content": content}]
        self.one = explain_response(explained, self.messages, sources=ranges, generate={"max_new_tokens": 12})
        self.explained = explained
        self.whole = self.one.text.text[: len(self.one.text.text) - len(self.one.response)]

    def prompt(self, *facts: str) -> str:
        """The written prompt with other facts."""
        return self.whole.replace(self.context, " ".join(facts))

    def scored(self, score: str) -> ExplainedResponse:
        return replace(self.one, score=score)  # type: ignore[arg-type]


def ours(asked: Asked, name: str, score: str = "logit", prefix: bool = True, **settings: Any) -> Call:
    method, one = load_method(name, **settings), asked.scored(score)

    def call() -> list[float]:
        asked.explained.shares_prefix = prefix
        return attribute_responses(method, asked.explained, [one])[0]

    return call


def by_captum(asked: Asked, gradient: bool) -> Call:
    """captum's attribution of each token of the response, on the same sources (of a gradient method: on tokens)."""
    model, tokenizer = asked.explained.model, asked.explained.tokenizer
    if gradient:
        of_tokens = attr.LLMGradientAttribution(
            attr.LayerGradientXActivation(model, asked.explained.embedding), tokenizer
        )
        tokens = attr.TextTokenInput(asked.whole, tokenizer)
        return lambda: of_tokens.attribute(tokens, target=asked.one.response).seq_attr
    of_facts = attr.LLMAttribution(attr.FeatureAblation(model), tokenizer)
    template = attr.TextTemplateInput(asked.prompt, values=asked.facts)
    # Its key-value cache (`use_cached_outputs`, the default) is appended to in place by transformers 5: wrong scores.
    return lambda: of_facts.attribute(template, target=asked.one.response, use_cached_outputs=False).seq_attr.tolist()


def by_context_cite(asked: Asked) -> Call:
    """The package of the authors, with 32 ablations in batches of 8; the sources are the facts."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from context_cite import ContextCiter  # fetches data of a sentence splitter, which is not needed here
        from context_cite.context_partitioner import BaseContextPartitioner

    class Facts(BaseContextPartitioner):
        num_sources = len(asked.facts)
        sources = asked.facts

        def split_context(self) -> None: ...

        def get_source(self, index: int) -> str:
            return asked.facts[index]

        def get_context(self, mask: Any = None) -> str:
            kept = np.ones(len(asked.facts), bool) if mask is None else mask
            return " ".join(fact for fact, stays in zip(asked.facts, kept, strict=True) if stays)

    tokenizer = copy.deepcopy(asked.explained.tokenizer)
    tokenizer.padding_side = "left"  # it asks for that

    def call() -> list[float]:
        citer = ContextCiter(
            asked.explained.model,
            tokenizer,
            asked.context,
            asked.query,
            num_ablations=32,
            batch_size=8,
            partitioner=Facts(asked.context),
        )
        citer._cache["output"] = asked.whole + asked.one.response  # the response is there already
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return citer.get_attributions(verbose=False).tolist()

    return call


def by_at2(asked: Asked) -> Call:
    """AT2's features and linear form, with equal weights, on tokens: a pass over prompt and response, and attention."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from at2 import AT2Attributor, AT2FeatureExtractor, AT2ScoreEstimator
        from at2.tasks import SimpleContextAttributionTask
    model = asked.explained.model
    config: Any = model.config
    extractor = AT2FeatureExtractor(config.num_hidden_layers, config.num_attention_heads, config.model_type)

    def call() -> list[float]:
        task = SimpleContextAttributionTask(asked.context, asked.query, model, asked.explained.tokenizer)
        task.set_generation(asked.one.response)
        with torch.no_grad():
            return AT2Attributor(task, AT2ScoreEstimator(extractor)).get_attribution_scores().tolist()

    return call


def measured(asked: Asked, call: Call, repeats: int) -> tuple[Any, float, float]:
    """What a call gives, its median seconds, and the tokens that the model read in it."""
    read = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal read
        read += output.shape[0] * output.shape[1]

    hook = asked.explained.embedding.register_forward_hook(count)
    result = call()
    hook.remove()
    # On a processor, the time that it spent on this process: other work on the machine does not count.
    clock = time.perf_counter if asked.explained.device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return result, statistics.median(times), read


def main(
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    n_facts: int = 12,
    repeats: int = 3,
    dtype: str = "float32",
    device: str = "cpu",
    threads: int = 1,
    seed: int = 0,
) -> None:
    """Print the table in Markdown, and what the prefix cache changes.

    Args:
        model: a causal language model with a chat template.
        n_facts: sentences of the context.
        repeats: timed calls of each row, after one that is not counted.
        dtype: of the weights; the equality with and without the prefix cache is meant for float32.
        device: cpu or cuda.
        threads: of the processor.
        seed: of the facts.
    """
    torch.set_num_threads(threads)
    explained = ExplainedModel.from_pretrained(model, task=Response(), dtype=getattr(torch, dtype)).to(device)
    asked = Asked(explained, n_facts, seed)
    batch = explained.collate([asked.one.text])

    @torch.no_grad()
    def forward() -> Any:
        return explained(batch).logits.cpu()

    rows: dict[str, Callable[[], Call]] = {
        "forward pass": lambda: forward,
        "`attn_lrp` of the response": lambda: ours(asked, "attn_lrp"),
        "`mean_attention`": lambda: ours(asked, "mean_attention"),
        "`input_x_gradient`": lambda: ours(asked, "input_x_gradient"),
        "`leave_one_out`": lambda: ours(asked, "leave_one_out", "log_prob"),
        "`leave_one_out`, no prefix cache": lambda: ours(asked, "leave_one_out", "log_prob", prefix=False),
        "`context_cite`, 32 ablations": lambda: ours(asked, "context_cite", "log_prob"),
        "`context_cite`, no prefix cache": lambda: ours(asked, "context_cite", "log_prob", prefix=False),
        "captum `LLMAttribution(FeatureAblation)`": lambda: by_captum(asked, gradient=False),
        "captum `LLMGradientAttribution(LayerGradientXActivation)`": lambda: by_captum(asked, gradient=True),
        "ContextCite, 32 ablations": lambda: by_context_cite(asked),
        "AT2, tokens": lambda: by_at2(asked),
    }
    packages = ("torch", "transformers", "captum", "context-cite", "at2")
    print(f"{model}, {dtype}, {device}, {threads} thread; {', '.join(map(_version, packages))}")
    print(
        f"{len(asked.one.text)} tokens, of which {len(asked.one.response_ids)} are the response "
        f"{asked.one.response!r}; {len(asked.one.sources)} sources\n\n"
        "| | s | in forward passes | passes |\n|---|---|---|---|"
    )
    found: dict[str, Any] = {}
    unit = (1.0, 1.0)
    for row, made in rows.items():
        try:
            result, seconds, read = measured(asked, made(), repeats)
        except ImportError as error:
            print(f"| {row} | not installed ({error}) | | |", flush=True)
            continue
        except Exception as error:  # another package may not run with these versions: its row says so
            if row.startswith("`") or row == "forward pass":
                raise
            print(f"| {row} | {type(error).__name__}: {str(error)[:80]} | | |", flush=True)
            continue
        found[row] = result
        unit = (seconds, read) if row == "forward pass" else unit
        print(f"| {row} | {seconds:.3f} | {seconds / unit[0]:.2f} | {read / unit[1]:.2f} |", flush=True)
    print()
    for name in ("`leave_one_out`", "`context_cite`, 32 ablations"):
        other = f"{name.split(',')[0]}, no prefix cache"
        apart, largest = _apart(found[name], found[other]), max(map(abs, found[name]))
        print(f"{name}: largest difference without the prefix cache {apart:.1e}, largest score {largest:.3f}")
    print(f"sources of `leave_one_out`: {[round(value, 3) for value in found['`leave_one_out`']]}")
    for row in list(rows)[-4:-1]:
        if row in found and len(found[row]) == len(asked.facts):
            print(f"{row}: {[round(value, 3) for value in found[row]]}")


def _apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
