"""Words and their scores from an ONNX file: needs onnxruntime and tokenizers, and neither torch nor this package.

explainer export --attributor checkpoints/demo-attributor --onnx model.onnx
python examples/onnx_words.py model.onnx "The plot is thin, but the acting is simply wonderful."
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer


def explain(file: Path, texts: list[str], target: int = -1) -> list[dict]:
    """Label, probability and scored words of each text; `target` is the index of a label, or -1 for the predicted one.

    A regression has no probability: there the record holds the predicted `value` of its label.
    """
    tokenizer = Tokenizer.from_file(str(file.with_suffix(".tokenizer.json")))
    facts = json.loads(file.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    encodings = tokenizer.encode_batch(texts)  # padded on the right, cut to the model's length
    inputs = {
        "input_ids": np.array([encoding.ids for encoding in encodings]),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
        "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),
        "target": np.full(len(texts), target),
    }
    wanted = {value.name for value in session.get_inputs()}
    logits, scores = session.run(["logits", "scores"], {name: inputs[name] for name in wanted})
    labels = logits.argmax(axis=1) if target == -1 else inputs["target"]
    name, answers = answer(logits, facts["link"])
    return [
        {"label": facts["labels"][label], name: float(answers[i, label]), "words": words(text, encoding, scores[i])}
        for i, (text, encoding, label) in enumerate(zip(texts, encodings, labels, strict=True))
    ]


def answer(logits: np.ndarray, link: str) -> tuple[str, np.ndarray]:
    """The model's answer to every label: one label of several, every label by itself, or values."""
    if link == "softmax":
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return "probability", odds / odds.sum(axis=1, keepdims=True)
    return ("probability", 1 / (1 + np.exp(-logits))) if link == "sigmoid" else ("value", logits)


def words(text: str, encoding: Encoding, scores: np.ndarray) -> list[tuple[str, float]]:
    """The text's words in order, each with the sum of its tokens' scores.

    A word begins where the tokenizer begins one, and after white space: some tokenizers (Llama, Gemma) number none.
    """
    spans: list[tuple[int, int]] = []
    sums: list[float] = []
    before, waiting = None, 0.0  # the score of white space goes to the word after it
    for i, ((start, end), special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
        if special:
            continue
        visible = text[start:end].strip()
        if not visible:
            waiting += float(scores[i])
            continue
        start = text.index(visible, start)
        last = spans[-1][1] if spans else 0
        gap = text[last:start]
        if not spans or (start >= last and (encoding.word_ids[i] != before or gap != "".join(gap.split()))):
            spans.append((start, start))
            sums.append(0.0)
        spans[-1] = spans[-1][0], max(spans[-1][1], start + len(visible))
        sums[-1] += waiting + float(scores[i])
        before, waiting = encoding.word_ids[i], 0.0
    if spans:
        sums[-1] += waiting
    return [(text[start:end], score) for (start, end), score in zip(spans, sums, strict=True)]


if __name__ == "__main__":
    for record in explain(Path(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(record))
