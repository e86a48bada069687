"""Words and their evidence from an ONNX file: needs onnxruntime and tokenizers, and neither torch nor this package.

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
    """Label and scored words of each text; `target` is a class index, or -1 for the predicted class."""
    tokenizer = Tokenizer.from_file(str(file.with_suffix(".tokenizer.json")))
    labels = json.loads(file.with_suffix(".json").read_text())["labels"]
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
    return [
        {"label": labels[row.argmax()], "words": words(text, encoding, score)}
        for text, encoding, row, score in zip(texts, encodings, logits, scores, strict=False)
    ]


def words(text: str, encoding: Encoding, scores: np.ndarray) -> list[tuple[str, float]]:
    """The text's words in order, each with the sum of its tokens' scores."""
    found: dict[int, list[int]] = {}
    for i, (word, special) in enumerate(zip(encoding.word_ids, encoding.special_tokens_mask, strict=False)):
        if word is not None and not special:
            found.setdefault(word, []).append(i)
    return [
        (text[encoding.offsets[at[0]][0] : encoding.offsets[at[-1]][1]], float(scores[at].sum()))
        for at in found.values()
    ]


if __name__ == "__main__":
    for found in explain(Path(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(found))
