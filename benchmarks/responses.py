"""Faithfulness of explanations of a language model's own responses to prompts with planted facts, and their cost.

python benchmarks/responses.py [--n 24] [--methods leave_one_out,attn_lrp,input_x_gradient,random]

Each prompt is one message: six made-up facts, an empty line, and a question about one of them. The response is the
model's own, greedy, of 12 tokens at most; all of it is explained. Sources are the sentences. Perturbations explain the
log-probability, gradients and relevance the logits. Masks and prompts are the same for every method.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from jsonargparse import auto_cli

from explainer import ExplainedModel, load_method
from explainer.explained import ExplainedResponse, Response, explain_response
from explainer.explained.readout import Score
from explainer.faithfulness.responses import response_faithfulness
from explainer.methods.responses import attribute_responses
from explainer.metrics import bootstrap_mean

NAMES = "Anna Ben Clara Dan Emma Frank Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul"
FACTS = (
    ("{n} drives a {v} car.", "What colour is {n}'s car?", "red blue green white black yellow"),
    ("{n} lives in {v}.", "Where does {n} live?", "Oslo Paris Madrid Berlin Rome Vienna"),
    ("{n} works as a {v}.", "What does {n} work as?", "baker nurse pilot farmer lawyer painter"),
    ("{n} plays the {v}.", "Which instrument does {n} play?", "violin piano flute guitar drums cello"),
)
PERTURBATIONS = ("leave_one_out", "subset_regression", "kernel_shap", "lime", "occlusion")
SHOWN = ("drop_at_1", "drop_at_3", "lds", "lds_bernoulli", "rise", "mas")


def planted(n: int, seed: int = 0) -> list[str]:
    """Prompts of six facts about six people and a question about one of them."""
    draw = random.Random(seed)
    prompts = []
    for _ in range(n):
        names = draw.sample(NAMES.split(), 6)
        kinds = [draw.choice(FACTS) for _ in names]
        facts = [
            kind[0].format(n=name, v=draw.choice(kind[2].split())) for name, kind in zip(names, kinds, strict=True)
        ]
        asked = draw.randrange(6)
        prompts.append(f"{' '.join(facts)}\n\n{kinds[asked][1].format(n=names[asked])}")
    return prompts


def seconds(call: Callable[[], object], repeats: int = 9) -> float:
    """The median time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cost(explained: ExplainedModel, response: ExplainedResponse) -> None:
    """Print the time of AttnLRP of a whole response and of one token of it, in forward passes over both."""
    batch, method = explained.collate([response.text]), load_method("attn_lrp")

    @torch.no_grad()
    def forward() -> object:
        return explained(batch)

    one = response.each_token()[0]
    forwards = seconds(forward)
    spans = seconds(lambda: method.attribute(explained, [response.text], response.target))
    tokens = seconds(lambda: method.attribute(explained, [one.text], one.target))
    print(
        f"\nAttnLRP, {len(response.text)} tokens: {spans / forwards:.2f} forward passes for the response's "
        f"{len(response.response_ids)} tokens, {tokens / forwards:.2f} for one of them "
        f"(a forward pass: {1000 * forwards:.0f} ms)"
    )


def main(
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    n: int = 24,
    methods: str = "leave_one_out,attn_lrp,input_x_gradient,random",
) -> None:
    """Print the table in Markdown, and the cost of AttnLRP."""
    explained = ExplainedModel.from_pretrained(model, task=Response(), dtype=torch.bfloat16)
    responses = [
        explain_response(
            explained,
            [{"role": "user", "content": prompt}],
            sources="sentence",
            generate={"max_new_tokens": 12},
        )
        for prompt in planted(n)
    ]
    cost(explained, max(responses, key=lambda one: len(one.response_ids)))
    print(f"\n| method | {' | '.join(SHOWN)} | s per response |\n|---|{'---|' * (len(SHOWN) + 1)}", flush=True)
    for name in methods.split(","):
        score: Score = "log_prob" if name in PERTURBATIONS else "logit"
        asked = [replace(one, score=score) for one in responses]
        start = time.perf_counter()
        scores = attribute_responses(load_method(name), explained, asked)
        spent = (time.perf_counter() - start) / n
        measured = [response_faithfulness(explained, one, row) for one, row in zip(asked, scores, strict=True)]
        cells = [str(bootstrap_mean([one[metric] for one in measured])) for metric in SHOWN]
        print(f"| `{name}` | {' | '.join(cells)} | {spent:.2f} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
