"""Faithfulness of explanations of a language model's own responses, and what they cost.

python benchmarks/responses.py --data planted_facts --n 320 --output runs/responses
python benchmarks/responses.py --data movie_reviews/questions --n 320 --output runs/responses

Each prompt is one message of the data set's test split; the response is the model's own, greedy. All of it is
explained; sources are the sentences. `--methods` names methods and folders of exported explainers, with labels where
two rows have one name. Masks and prompts are the same for every method. The table is printed in Markdown, and all
values are written to OUTPUT, from which `--compare` prints paired differences.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import auto_cli

from explainer import ExplainedModel
from explainer.data.catalog import load
from explainer.evaluation.responses import compare_responses, records
from explainer.explained import EncodedText, Response, Target, explain_response, generate_responses
from explainer.explained.pretrained import DTYPES
from explainer.faithfulness.perturbation import Operator
from explainer.methods.base import AbstractTextMethod, from_units
from explainer.methods.loading import load_methods, parse_methods
from explainer.metrics import Estimate
from explainer.typing import RaggedScores

SHOWN = ("drop_at_1", "drop_at_3", "lds", "lds_bernoulli", "rise", "mas")
METHODS = (
    "random,mean_attention,input_x_gradient,attn_lrp,leave_one_out,"
    "context_cite_32=context_cite,context_cite_256=context_cite"
)


@dataclass(frozen=True)
class Constant(AbstractTextMethod):
    """The same score for every source."""

    name: ClassVar[str] = "constant"

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        return [from_units(text, text.unit_masks, torch.ones(len(text.unit_masks))) for text in texts]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


def main(
    data: str = "planted_facts",
    output: Path = Path("runs/responses"),
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    n: int = 320,
    skip: int = 0,
    methods: str = METHODS,
    method_args: dict[str, dict[str, Any]] | None = None,
    operator: Operator = "delete",
    new_tokens: int = 24,
    dtype: str = "bfloat16",
    batch_tokens: int = 4096,
) -> None:
    """Measure every method on the responses to `n` test prompts, after the first `skip`, and write the values."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = {"context_cite_256": {"n_ablations": 256}, **(method_args or {})}
    settings = parse_methods(methods.split(","), {k: v for k, v in given.items() if k in methods})
    explained = ExplainedModel.from_pretrained(
        model, task=Response(), dtype=DTYPES[dtype], batch_tokens=batch_tokens
    ).to(device)
    prompts = [[{"role": "user", "content": text}] for text in load(data)["test"]["text"][skip : skip + n]]
    said = generate_responses(explained, prompts, {"max_new_tokens": new_tokens})
    responses = [
        explain_response(explained, prompt, ids, sources="sentence")
        for prompt, ids in zip(prompts, said, strict=True)
        if ids
    ]
    responses = [one for one in responses if len(one.sources) > 1]
    rows = compare_responses(
        explained,
        responses,
        {"constant": Constant(), **load_methods(settings, explained)},
        operator=operator,
        seed=1_000_000 + skip,
        progress=data,
    )
    output.mkdir(parents=True, exist_ok=True)
    name = f"{data.replace('/', '_')}_{operator}_{skip}.json"
    (output / name).write_text(json.dumps({"device": device, "rows": records(rows)}))
    print(f"{data}, {len(responses)} responses, operator {operator}, {dtype}, {device}\n")
    print(f"| method | {' | '.join(SHOWN)} | s per response |\n|---|{'---|' * (len(SHOWN) + 1)}")
    for label, row in rows.items():
        cells: list[Estimate] = [row.estimate(metric) for metric in SHOWN]
        print(f"| `{label}` | {' | '.join(map(str, cells))} | {row.seconds / len(responses):.3f} |", flush=True)


if __name__ == "__main__":
    auto_cli(main)
