"""`explainer heads`: which attention heads of a model look at fixed offsets and at dependency heads."""

import sys
from collections.abc import Iterator
from pathlib import Path

from explainer.attention_heads.corpus import head_mask
from explainer.attention_heads.parses import Parse, parse_with_spacy, read_conllu
from explainer.attention_heads.statistics import RELATIONS
from explainer.commands.device import device
from explainer.commands.outputs import check_apart
from explainer.data.jsonl import read_texts
from explainer.explained import ExplainedModel
from explainer.extras import import_optional
from explainer.storage.atomic import replacing


def heads(
    model: str,
    output: Path,
    conllu: Path | None = None,
    parser: str | None = None,
    input: Path | None = None,
    xi_pos: float = 0.8,
    xi_synt: float = 0.1,
    relations: list[str] | None = None,
    picture: Path | None = None,
    note: str = "",
    batch_tokens: int = 4096,
) -> None:
    """Find the attention heads that look at fixed offsets and at dependency heads: the head mask of `mask_lrp`.

    Args:
        model: the explained model: hub id, model folder or PEFT adapter folder.
        output: heads.json: the mask, the statistics it was chosen by, the thresholds.
        conllu: parsed sentences in CoNLL-U, with their `# text =` lines.
        parser: instead of conllu: spacy:NAME, an installed spaCy pipeline that parses the texts of `input`.
        input: JSON lines with `text`, for the parser.
        xi_pos: a head is positional when its argmax lies at one offset for more than this share of the tokens.
        xi_synt: a head is syntactic when it hits a relation more often than always guessing the relation's most
            frequent offset, by more than this share.
        relations: universal dependency relations; nsubj, obj, amod, advmod by default.
        picture: an image file, by its suffix: heads by relation.
        note: where the parses come from, kept in the output.
        batch_tokens: token budget of a forward pass.
    """
    check_apart({"conllu": conllu, "input": input}, {"output": output, "picture": picture})
    parses = _parses(conllu, parser, input)
    explained = ExplainedModel.from_pretrained(model, batch_tokens=batch_tokens)
    explained.to(device())
    mask = head_mask(explained, parses, tuple(relations or RELATIONS), xi_pos, xi_synt, note)
    with replacing(output) as name:
        mask.save(name)
    if picture is not None:
        figure = import_optional("explainer.attention_heads.figure").heads_by_relation(mask)
        with replacing(picture) as name:
            figure.savefig(name, bbox_inches="tight")
    kept = sum(sum(layer) for layer in mask.mask)
    print(f"{kept:.0f} of {len(mask.mask) * len(mask.mask[0])} heads kept: {output}", file=sys.stderr)


def _parses(conllu: Path | None, parser: str | None, source: Path | None) -> Iterator[Parse]:
    if (conllu is None) == (parser is None):
        raise ValueError("Give `--conllu FILE`, or `--parser spacy:NAME --input TEXTS`.")
    if conllu is not None:
        return read_conllu(conllu)
    assert parser is not None
    kind, _, name = parser.partition(":")
    if kind != "spacy" or not name:
        raise ValueError(f"`--parser` must be spacy:NAME, as spacy:en_core_web_sm, got {parser!r}.")
    if source is None:
        raise ValueError("`--parser` needs `--input`, JSON lines with `text`.")
    return parse_with_spacy(name, [record["text"] for _, record in read_texts(source)])
