"""Peak memory and time of explaining one response to a long prompt, beside a plain forward pass of the same model.

python benchmarks/long_contexts.py [--lengths 1024,4096,8192] [--device cuda] [--dtype bfloat16]

The prompt is one message of made-up facts and a question; prompt and response have the given number of tokens, of which
the last 8 are the target. Memory is what a call needs beyond the weights and the inputs: on a GPU what torch has
allocated at most, on a processor how far the resident memory rises (each call in a process of its own). Rows:

- `forward, all logits`: transformers' own call, which gives the logits of every position;
- `forward`: the pass whose head reads the target's positions alone, without a graph;
- the methods, with their settings, and the trained explainer.
"""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from jsonargparse import auto_cli

from explainer import ExplainedModel, load_method
from explainer.data.planted import planted_prompt
from explainer.explained import ExplainedResponse, Response, explain_response

Call = Callable[[], object]

RESPONSE = " It is the one that the text names first."
METHODS = ("attn_lrp", "attn_lrp checkpointing", "input_x_gradient", "mean_attention", "checkpoints/demo-response")


def long_response(explained: ExplainedModel, length: int, seed: int = 0) -> ExplainedResponse:
    """A response of 8 tokens to as many facts as give `length` tokens together, within one fact."""
    draw, facts = random.Random(seed), []
    ids = explained.tokenizer(RESPONSE, add_special_tokens=False)["input_ids"][:8]
    room = length - len(ids) - 80  # the template, its system message, and the question
    while room > 0:
        context, question = planted_prompt(draw, 8, 8).text.split("\n\n")
        facts.append(context)
        room -= len(explained.tokenizer(" " + context, add_special_tokens=False)["input_ids"])
    while True:
        messages = [{"role": "user", "content": " ".join(facts) + f"\n\n{question}"}]
        try:
            made = explain_response(explained, messages, ids, sources="sentence")
        except ValueError:  # longer than the model reads
            facts.pop()
            continue
        if len(made.text) <= length:
            return made
        facts.pop()


def calls(explained: ExplainedModel, one: ExplainedResponse, wanted: tuple[str, ...]) -> dict[str, Call]:
    """What is measured, by the name of its row."""
    batch = explained.collate([one.text])

    @torch.no_grad()
    def plain() -> object:
        return explained.model(input_ids=batch.input_ids, use_cache=False).logits[0, -1].float().cpu()

    @torch.no_grad()
    def forward() -> object:
        return explained(batch).logits.cpu()

    rows: dict[str, Call] = {"forward, all logits": plain, "forward": forward}
    for row in wanted:
        name, *switches = row.split()
        settings: dict[str, Any] = dict.fromkeys(switches, True)
        method = load_method(name, explained, **settings)
        rows[row] = lambda method=method: method.attribute(explained, [one.text], one.target)  # type: ignore[misc]
    return {row: call for row, call in rows.items() if row in (*wanted, "forward", "forward, all logits")}


def on_gpu(call: Call) -> tuple[float, float]:
    """Peak memory in MB beyond what is held before, and seconds, of the second of two calls."""
    call()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20, time.perf_counter() - start


def resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def in_process(call: Call) -> tuple[float, float]:
    """The same of one call in a process of its own, by resident memory."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        with os.fdopen(read) as found:
            told = found.read()
        os.waitpid(child, 0)
        if not told:
            raise MemoryError("the process was ended: there was not enough memory.")
        peak, seconds = json.loads(told)
        return peak, seconds
    try:
        before, start = resident("VmRSS"), time.process_time()  # other work on the machine does not count
        Path("/proc/self/clear_refs").write_text("5")  # the highest resident memory counts from here
        call()
        spent = time.process_time() - start
        os.write(write, json.dumps([resident("VmHWM") - before, spent]).encode())
    finally:
        os._exit(0)


def main(
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    lengths: str = "1024,4096,8192",
    methods: str = ",".join(METHODS),
    device: str = "cpu",
    dtype: str = "bfloat16",
    threads: int = 1,
) -> None:
    """Print the table in Markdown.

    Args:
        model: a causal language model.
        lengths: tokens of prompt and response together.
        methods: names or folders, each with the switches that are set (`attn_lrp checkpointing`).
        device: cpu or cuda.
        dtype: of the weights.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    explained = ExplainedModel.from_pretrained(model, task=Response(), dtype=getattr(torch, dtype)).to(device)
    weights = sum(p.numel() * p.element_size() for p in set(explained.model.parameters())) / 2**20
    where = torch.cuda.get_device_name() if device == "cuda" else f"processor, {threads} thread"
    print(
        f"{model}, {dtype}, weights {weights:.0f} MB, {where}; torch {torch.__version__}, transformers "
        f"{transformers.__version__}\n\n"
        "| | tokens | peak memory, MB | in plain passes | s | in plain passes |\n|---|---|---|---|---|---|"
    )
    for length in map(int, lengths.split(",")):
        one = long_response(explained, length)
        reference: tuple[float, float] | None = None
        for row, call in calls(explained, one, tuple(filter(None, methods.split(",")))).items():
            try:
                peak, seconds = on_gpu(call) if device == "cuda" else in_process(call)
            except (MemoryError, torch.OutOfMemoryError, ValueError) as error:
                print(f"| `{row}` | {len(one.text)} | {type(error).__name__}: {error} | | | |", flush=True)
                continue
            if row == "forward":
                reference = peak, seconds
            times = ("", "") if reference is None else (f"{peak / reference[0]:.2f}", f"{seconds / reference[1]:.2f}")
            print(f"| `{row}` | {len(one.text)} | {peak:.0f} | {times[0]} | {seconds:.3f} | {times[1]} |", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
