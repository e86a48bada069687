"""The notebooks: their cells run on small budgets, their stored outputs are those of a run, and the site shows both."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from explainer import ExplainedModel, ResponseAttributor
from explainer.explainers.response import AttentionExplainer
from explainer.methods.trained.amortized import Amortized
from tests.explainer.explained.test_responses import model as tiny
from tests.explainer.tools import saved
from tests.pages import ROOT, clone
from tests.test_site import SITE, loaded

NOTEBOOKS = loaded("run_notebooks")
FILES = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

every_notebook = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """That of the notebooks in a copy of the repository."""
    notebooks = clone(tmp_path / "clone") / "docs" / "notebooks"
    notebooks.mkdir(parents=True)
    return notebooks


def stored(name: str) -> tuple[dict[str, Any], list[list[Any]]]:
    """A notebook, and the outputs of its code cells."""
    notebook = NOTEBOOKS.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb")
    return notebook, [cell["outputs"] for cell in NOTEBOOKS.code_cells(notebook)]


def kinds(outputs: list[Any]) -> list[Any]:
    return [(output["output_type"], sorted(output.get("data", {}))) for output in outputs]


def visible(outputs: list[Any]) -> str:
    """What a reader sees of some outputs, colours left out."""
    parts = [part for output in outputs for part in (output.get("data") or {"text/plain": output["text"]}).values()]
    without_style = re.sub(r"<style>.*?</style>", "", "\n".join("".join(part) for part in parts), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", without_style))


def run(name: str, folder: Path, instead: Mapping[str, str] | None = None) -> list[list[Any]]:
    notebook, _ = stored(name)
    return list(NOTEBOOKS.run(notebook, folder, instead))


def test_the_notebook_on_a_classifier_gives_what_it_shows(folder: Path) -> None:
    _, shown = stored("classifier")
    for found, expected in zip(run("classifier", folder), shown, strict=True):
        assert kinds(found) == kinds(expected)
        assert NUMBER.sub("#", visible(found)) == NUMBER.sub("#", visible(expected))
        numbers, wanted = ([float(n) for n in NUMBER.findall(visible(some))] for some in (found, expected))
        assert numbers == pytest.approx(wanted, rel=0.02, abs=0.011)


def longer(explained: ExplainedModel) -> ExplainedModel:
    """The model with room for the notebook's prompt; its positions are rotations, so that no weight changes."""
    explained.model.config.max_position_embeddings = explained.tokenizer.model_max_length = 400
    return explained


def test_the_notebook_on_a_language_model_runs_with_a_small_one(folder: Path, tmp_path: Path) -> None:
    model = saved(longer(tiny("qwen2")), tmp_path / "model")
    explained = ResponseAttributor.of(model, "random").explained
    ResponseAttributor(explained, Amortized(AttentionExplainer(explained))).save_pretrained(tmp_path / "explainer")
    small = {
        "HuggingFaceTB/SmolLM2-135M-Instruct": model,
        "../../checkpoints/demo-response": str(tmp_path / "explainer"),
        "dtype=torch.bfloat16": "dtype=torch.float32",
        "span=last": "token=-1",  # its answers repeat words
        '"max_new_tokens": 24': '"max_new_tokens": 3',
    }
    _, shown = stored("language-model")
    found = run("language-model", folder, small)
    assert [kinds(outputs) for outputs in found] == [kinds(outputs) for outputs in shown]
    assert "The lamp became electric." not in visible(found[-1])  # the sources are of the prompt
    assert "left the island" in visible(found[-1])


def test_the_notebook_on_training_runs_on_a_few_texts(folder: Path) -> None:
    small = {
        '"train": 1000, "validation": 50, "test": 50': '"train": 8, "validation": 2, "test": 2',
        "EPOCHS = 10": "EPOCHS = 1",
    }
    _, shown = stored("training")
    found = run("training", folder, small)
    assert [kinds(outputs) for outputs in found] == [kinds(outputs) for outputs in shown]
    labels = [[line.split()[0] for line in visible(outputs[-2]).splitlines()] for outputs in (found, shown)]
    assert {*labels[0]} == {*labels[1]} == {"trained", "random", "attn_lrp", "input_x_gradient"}
    assert (folder.parents[1] / "runs" / "notebook" / "attributor" / "model.safetensors").is_file()


def test_code_to_be_replaced_must_be_there(folder: Path) -> None:
    with pytest.raises(ValueError, match="`instead` names code that no cell has: nowhere"):
        run("classifier", folder, {"nowhere": "here"})


@every_notebook
def test_a_notebook_is_whole_and_of_no_machine(file: Path) -> None:
    notebook = NOTEBOOKS.read(file)
    cells = notebook["cells"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = NOTEBOOKS.code_cells(notebook)
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert any(cell["outputs"] for cell in code)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for cell in cells)
    assert re.findall(r"/(?:home|root|tmp|work|Users)/|20\d\d-\d\d-\d\d|Traceback", file.read_text()) == []
    assert file.stat().st_size < 64_000


def test_a_notebook_is_written_as_it_is_read(tmp_path: Path) -> None:
    for file in FILES:
        NOTEBOOKS.write(tmp_path / file.name, NOTEBOOKS.read(file))
        assert (tmp_path / file.name).read_text() == file.read_text()


@every_notebook
def test_texts_open_with_what_the_notebook_is_for_and_link_what_exists(file: Path) -> None:
    texts = [NOTEBOOKS.source(cell) for cell in NOTEBOOKS.read(file)["cells"] if cell["cell_type"] == "markdown"]
    title, opening = texts[0].split("\n\n")[:2]
    assert title.startswith("# ")
    assert opening.startswith("This notebook ")
    targets = [target for text in texts for target in re.findall(r"\]\(([^)#\s]+)", text)]
    assert targets
    assert [target for target in targets if not (file.parent / target).resolve().exists()] == []


@every_notebook
def test_the_page_of_the_site_has_texts_code_and_outputs(file: Path) -> None:
    page = SITE.notebook_page(file)
    for cell in NOTEBOOKS.read(file)["cells"]:
        source = NOTEBOOKS.source(cell)
        assert source.replace(".ipynb)", ".md)") in page
        for output in cell.get("outputs", []):
            assert visible([output]).strip() in visible([{"text": [page]}])
    assert f"]({file.name})" in page
