"""Explainers that are told the target by marks in the text: of every kind, for entities and for answers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.explainers.conditioning import AnchorConditioning
from explainer.explainers.folder import load_folder, save_folder
from explainer.export.exportable import ExportableAttributor
from explainer.methods.trained import Amortized, Refined
from tests.explainer.tools import LORA_WARNINGS, encoded, explainer_of, moved, relative_error, saved
from tests.families import ANCHORED_TASKS, TEXTS, explained

pytestmark = LORA_WARNINGS
every_task = pytest.mark.parametrize("task", ANCHORED_TASKS)
every_kind = pytest.mark.parametrize("kind", ["side", "separate", "lora"])


def loaded(task: str, folder: Path) -> ExplainedModel:
    return ExplainedModel.from_pretrained(saved(explained("bert", **ANCHORED_TASKS[task]), folder / "model"))


def marks(texts: list[EncodedText]) -> list[int]:
    anchors = texts[0].tokens.anchors
    assert anchors is not None
    return anchors.tolist()


@every_task
@every_kind
def test_scores_depend_on_the_marks_alone_and_a_folder_gives_them_again(kind: str, task: str, tmp_path: Path) -> None:
    model = loaded(task, tmp_path)
    explainer = moved(model, kind)
    texts = encoded(model)
    target = model.predicted(texts)
    with torch.no_grad():
        together = [
            torch.cat(batch.split(explainer(model, batch, target)))
            for batch in (model.collate(texts, side=side) for side in ("right", "left"))  # type: ignore[arg-type]
        ]
        alone = [explainer(model, model.collate([text]), target[i : i + 1])[0] for i, text in enumerate(texts)]
    assert relative_error(together[0], torch.cat(alone)) < 1e-4
    assert relative_error(together[1], torch.cat(alone)) < 1e-4
    spans = [model.asked(texts[:1], span) for span in ((0, 2), (3, 6))]
    other, others = next(one for one in spans if marks(one[0]) != marks(texts[:1]))
    with torch.no_grad():
        assert relative_error(explainer(model, model.collate(other), others)[0], alone[0]) > 1e-3
    save_folder(model, explainer, tmp_path / "explainer")
    again, read = load_folder(str(tmp_path / "explainer"))
    assert again.task.settings == model.task.settings
    with torch.no_grad():
        assert torch.equal(read(again, again.collate(texts[:1]), target[:1])[0], alone[0])


@every_task
def test_a_vector_stands_at_every_mark(task: str) -> None:
    model = explained("bert", **ANCHORED_TASKS[task])
    explainer = moved(model, "side")
    assert isinstance(explainer.label, AnchorConditioning)
    texts, target = model.asked(encoded(model, TEXTS[:1]), (0, 8))
    added = explainer.label.added(model.collate(texts), target)[0]
    kinds, shared = explainer.label.kinds, explainer.label.shared
    anchors = texts[0].tokens.anchors
    assert anchors is not None
    for place, mark in enumerate(anchors.tolist()):
        own: Any = torch.zeros_like(shared)
        if mark:
            kind = int(target.choices[0, mark - 1]) if task == "token-classification" else mark - 1
            own = kinds[kind] + shared
        torch.testing.assert_close(added[place], own)


@every_task
def test_what_it_has_not_learned_is_refused(task: str) -> None:
    model = explained("bert", **ANCHORED_TASKS[task])
    explainer = moved(model, "side")
    texts, target = model.asked(encoded(model, TEXTS[:1]), foil="runner_up")
    batch = model.collate(texts)
    with pytest.raises(ValueError, match="the target asks for a contrast with a foil"):
        explainer(model, batch, target)
    with pytest.raises(ValueError, match="the target asks for `score` 'log_prob'"):
        explainer(model, batch, Target(target.choices, score="log_prob"))
    with pytest.raises(ValueError, match="has no closed list of labels"):
        ExportableAttributor(model, Amortized(explainer))
    with pytest.raises(ValueError, match=f"A refinement changes the probabilities of labels, and the task is '{task}'"):
        Refined(explainer).attribute(model, texts, Target(target.choices))
    with pytest.raises(ValueError, match="The encoder explainer reads texts by a tokenizer of its own"):
        explainer_of(model, "encoder")
