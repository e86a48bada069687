"""CoNLL-U as the format's description has it, and spaCy's parses by their duck type."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from explainer.attention_heads.parses import Parse, Word, parse_with_spacy, read_conllu, relation_named

TREE = """# sent_id = 1
# text = We don't like dull films.
1\tWe\twe\tPRON\t_\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tdo\tdo\tAUX\t_\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_
4\tlike\tlike\tVERB\t_\t_\t0\troot\t_\t_
4.1\tlike\tlike\tVERB\t_\t_\t_\t_\t0:root\t_
5\tdull\tdull\tADJ\t_\t_\t6\tamod\t_\t_
6\tfilms\tfilm\tNOUN\t_\t_\t4\tobj:x\t_\tSpaceAfter=No
7\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_
"""


def read(path: Path, text: str) -> list[Parse]:
    path.write_text(text)
    return list(read_conllu(path))


def test_words_have_their_characters_heads_and_plain_relations(tmp_path: Path) -> None:
    first, second = read(tmp_path / "a.conllu", TREE + "\n" + TREE.replace("dull", "good"))
    text = "We don't like dull films."
    assert first.text == text
    assert second.text == text.replace("dull", "good")
    assert [text[word.start : word.end] for word in first.words] == [
        "We",
        "don't",
        "don't",
        "like",
        "dull",
        "films",
        ".",
    ]
    assert [word.head for word in first.words] == [3, 3, 3, None, 5, 3, 3]
    assert [word.relation for word in first.words] == ["nsubj", "aux", "advmod", "root", "amod", "obj", "punct"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            TREE.replace("# text = We don't like dull films.\n", ""),
            r"a.conllu, line 1: a sentence without a `# text",
        ),
        (
            TREE.replace("5\tdull", "5\tgood"),
            r"a.conllu, line 9: 'good' is not in the sentence's text after",
        ),
        (TREE.replace("\tadvmod\t_\t_", "\tadvmod"), r"a.conllu, line 6: CoNLL-U has 10 columns between tabs, got 8"),
        (TREE.replace("2-3\t", "2-999999\t"), "a.conllu, line 4: 2-999999 is not in the sentence, which has 7 words"),
        (TREE.replace("2-3\t", "2-1000000000\t"), "a.conllu, line 4: no id of CoNLL-U: '2-1000000000'"),
        (TREE.replace("2-3\t", "3-2\t"), "a.conllu, line 4: 3-2 is not in the sentence"),
        (TREE.replace("7\t.", "²\t."), "a.conllu, line 11: no id of CoNLL-U: '²'"),
        (TREE.replace("7\t.", "6\t."), "a.conllu, line 11: word '6' must be 7"),
        (
            TREE.replace("_\t6\tamod", "_\t99\tamod"),
            "a.conllu, line 9: head 99 is no word of the sentence",
        ),
        (TREE.replace("_\t6\tamod", "_\tx\tamod"), "a.conllu, line 9: the head must be a word's number or 0, got 'x'"),
        (TREE.replace("5\tdull", "5\t"), "a.conllu, line 9: a word without characters"),
    ],
)
def test_a_broken_sentence_is_refused_by_file_and_line(tmp_path: Path, broken: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.conllu", broken)


def test_a_file_of_another_system_is_read_and_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_bytes(b"\xef\xbb\xbf" + TREE.replace("\n", "\r\n").encode())
    assert [parse.text for parse in read_conllu(path)] == ["We don't like dull films."]
    path.write_bytes(b"\n" + TREE.replace("dull", "d\xfcll").encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.conllu, line 3: not in UTF-8"):
        list(read_conllu(path))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe or a device"):
        list(read_conllu(path))


@pytest.mark.parametrize(
    ("label", "name"), [("nsubj:pass", "nsubj"), ("dobj", "obj"), ("nsubjpass", "nsubj"), ("advmod", "advmod")]
)
def test_relations_go_by_their_universal_names(label: str, name: str) -> None:
    assert relation_named(label) == name


def test_spacy_s_documents_become_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of spaCy's interface: a pipeline maps texts to documents of tokens."""

    class Token(SimpleNamespace):
        def __len__(self) -> int:
            return len(self.text)

    class Document(list):
        text = "dull films bore"

    tokens = [
        Token(i=i, text=t, idx=x, dep_=d)
        for i, (t, x, d) in enumerate([("dull", 0, "amod"), ("films", 5, "nsubj"), ("bore", 11, "ROOT")])
    ]
    for token, head in zip(tokens, (1, 2, 2), strict=True):
        token.head = tokens[head]
    pipeline = SimpleNamespace(pipe=lambda texts: [Document(tokens) for _ in texts])
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=lambda name: pipeline))
    (parse,) = parse_with_spacy("en", ["dull films bore"])
    assert parse.words == (Word(0, 4, 1, "amod"), Word(5, 10, 2, "nsubj"), Word(11, 15, None, "root"))


def test_a_missing_spacy_or_pipeline_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ValueError, match=r"`pip install amortex\[spacy\]`, or give parses with `conllu`"):
        list(parse_with_spacy("en_core_web_sm", ["a"]))

    def load(name: str) -> None:
        raise OSError(name)

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))
    with pytest.raises(ValueError, match=r"spaCy has no pipeline 'en_xx': `python -m spacy download en_xx`"):
        list(parse_with_spacy("en_xx", ["a"]))
