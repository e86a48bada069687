"""AttnLRP of the responses of a real language model: ours beside LXT's, in float32, and spans beside their tokens.

git clone https://github.com/rachtibat/LRP-eXplains-Transformers lxt && git -C lxt checkout f043441
PYTHONPATH=.:lxt python benchmarks/independent/lxt_response.py [--n 4]

The responses are the model's own to prompts with planted facts. LXT explains the sum of the target's logits by one
backward pass, as ours does. It changes transformers' classes for good, so ours comes first. Relevance is compared at
every token, the template's and the response's too; the relative difference is the largest difference at any token over
the largest score.
"""

import random

import torch
import transformers
from jsonargparse import auto_cli
from torch import Tensor
from transformers.models.llama import modeling_llama

from explainer import ExplainedModel
from explainer.data.planted import planted_prompt
from explainer.explained import ExplainedResponse, Response, explain_response
from explainer.methods import AttnLRP
from explainer.methods.base import gradient_times_input


def everywhere(explained: ExplainedModel, one: ExplainedResponse) -> Tensor:
    """Our AttnLRP at every token, also those of the template and the response."""
    batch = explained.collate([one.text])
    batch.scorable[:] = True
    return AttnLRP().scores(explained, batch, one.target)[0].double()


def by_lxt(explained: ExplainedModel, one: ExplainedResponse) -> Tensor:
    """LXT's, of the patched model."""
    ids = one.text.tokens.input_ids
    first = len(ids) - len(one.response_ids)
    embeddings = explained.embedding(ids[None]).detach().requires_grad_()
    logits = explained.model(inputs_embeds=embeddings, use_cache=False).logits[0]
    places = torch.arange(*one.span) + first
    logits[places - 1, ids[places]].sum().backward()
    assert embeddings.grad is not None
    return (embeddings * embeddings.grad).sum(dim=-1)[0].detach().double()


def difference(scores: Tensor, expected: Tensor) -> float:
    return float((scores - expected).abs().max() / expected.abs().max())


def main(model: str = "HuggingFaceTB/SmolLM2-135M-Instruct", n: int = 4) -> None:
    """Print the relative differences."""
    explained = ExplainedModel.from_pretrained(model, task=Response(), dtype=torch.float32)
    draw, spans = random.Random(0), []
    for k in range(n):
        prompt = planted_prompt(draw, 6, 6).text
        whole = explain_response(
            explained, [{"role": "user", "content": prompt}], token=None, generate={"max_new_tokens": 12}
        )
        m = len(whole.response_ids)
        part = (0, m) if k % 2 == 0 else (m // 3, max(m // 3 + 1, 2 * m // 3))
        spans.append(explain_response(explained, [{"role": "user", "content": prompt}], whole.response_ids, token=part))
    ours = [everywhere(explained, one) for one in spans]
    summed = [torch.stack([everywhere(explained, row) for row in one.each_token()]).sum(dim=0) for one in spans]
    batch = [explained.collate([one.text]) for one in spans]
    for each in batch:
        each.scorable[:] = True
    plain = [gradient_times_input(explained, b, one.target)[0].double() for b, one in zip(batch, spans, strict=True)]

    from lxt.efficient import monkey_patch

    monkey_patch(modeling_llama, verbose=False)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, float32\n")
    print("| response | tokens | target tokens | ours, LXT | one pass, sum over tokens | plain gradient, LXT |")
    print("|---|---|---|---|---|---|")
    for k, one in enumerate(spans):
        theirs = by_lxt(explained, one)
        cells = [difference(scores[k], theirs if scores is not summed else ours[k]) for scores in (ours, summed, plain)]
        shown = " | ".join(f"{cell:.1e}" for cell in cells)
        print(f"| {k + 1} | {len(one.text)} | {one.span[1] - one.span[0]} | {shown} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
