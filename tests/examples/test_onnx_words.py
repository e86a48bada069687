"""The example's own words, which it finds without this package, are the package's."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.explainer.scored_text.test_words import KINDS, encoder, words

pytest.importorskip("onnxruntime")
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_words.py"


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_an_explanation(kind: str) -> None:
    text = "  The film, isn't  good\n but  fun! "
    encoding = encoder(kind).tokenizer.backend_tokenizer.encode(text)
    found = runpy.run_path(str(EXAMPLE))["words"](text, encoding, np.array([2.0**-i for i in range(len(encoding))]))
    assert found == [(word.word, word.score) for word in words(kind, text)]
