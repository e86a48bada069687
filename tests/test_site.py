"""The documentation site: every page is in it, and every public name and command has an entry."""

import importlib
import inspect
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import amortex
import explainer
from explainer.methods import METHODS
from lightning_modules.cli import FUNCTIONS, USAGE
from tests.pages import DOCS, ROOT, blocks
from tests.test_docs import quoted, sections, table
from tests.test_packaging import public

NAV = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]


def loaded(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SITE = loaded("site_pages")
REFERENCE: dict[str, dict[str, str]] = SITE.reference()


def pages_of(entries: list[Any]) -> list[str]:
    found = []
    for entry in entries:
        (value,) = entry.values()
        found += [value] if isinstance(value, str) else pages_of(value)
    return found


def test_every_page_is_in_the_navigation_once() -> None:
    here = {str(page.relative_to(ROOT / "docs")) for page in DOCS}
    notebooks = {f"notebooks/{file.stem}.md" for file in SITE.NOTEBOOKS}
    assert len(notebooks) == 3
    assert sorted(pages_of(NAV)) == sorted([*here, *notebooks, "CONTRIBUTING.md"])


def test_links_of_the_repository_become_links_of_the_site() -> None:
    texts = {
        "[a](../CONTRIBUTING.md#rules)": "[a](CONTRIBUTING.md#rules)",
        "[a](../../CONTRIBUTING.md)": "[a](../CONTRIBUTING.md)",
        "[a](notebooks/classifier.ipynb)": "[a](notebooks/classifier.md)",
        "[a](../notebooks/language-model.ipynb)": "[a](../notebooks/language-model.md)",
        "[a](classifier.ipynb)": "[a](classifier.ipynb)",  # the file itself, beside its page
    }
    for text, expected in texts.items():
        assert SITE.on_page_markdown(text, None, None, None) == expected


def test_every_page_has_an_example() -> None:
    """Python or commands; which of them run is tested in `test_docs`. Results show how they were made."""
    without = {"papers.md", "reference/security.md"}
    bare = {str(page.relative_to(ROOT / "docs")) for page in DOCS if not blocks(page, "python", "bash")}
    assert bare == without


def test_the_guides_answer_what_people_come_for() -> None:
    """Pages by intention: each is in the navigation, and its example runs."""
    wanted = {
        "explain my classifier": "getting-started.md",
        "why did my language model say that": "guides/explain-a-response.md",
        "train an explainer": "guides/train-an-explainer.md",
        "choose a method by budget and model": "guides/choose-a-method.md",
        "compare methods": "guides/compare-methods.md",
        "serve it": "guides/export-and-serve.md",
        "explain a data set on several devices": "guides/explain-a-data-set.md",
        "add a method": "guides/add-a-method.md",
        "make an attributor of a public classifier": "guides/attributors-to-make-first.md",
    }
    assert set(wanted.values()) <= set(pages_of(NAV))


def test_every_public_name_is_in_the_reference() -> None:
    assert set(public(explainer)) | set(amortex.TRAINING) == {
        line.split("`")[1] for line in SITE.contents().splitlines() if line.startswith("- [`")
    }
    for part, title in SITE.PARTS.items():
        assert set(public(importlib.import_module(f"explainer.{part}"))) <= set(REFERENCE[title])
    assert {kind.__name__ for kind in METHODS.values()} <= set(REFERENCE[SITE.PARTS["methods"]])


@pytest.mark.parametrize("title", REFERENCE)
def test_the_entries_are_the_names_they_say(title: str) -> None:
    for name, place in REFERENCE[title].items():
        module, _, last = place.rpartition(".")
        assert last == name
        value = getattr(importlib.import_module(module), name)
        if f"[`{name}`][{place}]" in SITE.contents():
            assert getattr(amortex, name) is value


def test_what_is_public_has_a_docstring() -> None:
    for names in REFERENCE.values():
        for name, place in names.items():
            value = getattr(importlib.import_module(place.rpartition(".")[0]), name)
            if isinstance(value, type) or inspect.isfunction(value):
                assert (value.__doc__ or "").strip(), place


def test_every_command_is_in_the_reference() -> None:
    commands = [line.split()[0] for line in USAGE.splitlines() if line.startswith("  ") and line[2:3] != " "]
    assert set(FUNCTIONS) <= set(commands)
    headings = " ".join(sections(ROOT / "docs" / "reference" / "cli.md", 2))
    assert [command for command in commands if command not in headings.replace(",", "").split()] == []


def test_every_method_has_its_paper() -> None:
    rows = table((ROOT / "docs" / "papers.md").read_text(), "method")
    assert {name for row in rows for name in quoted(row[0])} == set(METHODS)
    notice = (ROOT / "docs" / "papers.md").read_text().split("## Patents")[1]
    assert {"attn_lrp", "cp_lrp", "mask_lrp", "subset_regression"} <= set(quoted(notice))


def test_every_extra_is_in_the_page_on_installing() -> None:
    rows = table((ROOT / "docs" / "install.md").read_text(), "extra")
    extras = amortex_extras()
    assert {name for row in rows for name in quoted(row[0])} == extras


def amortex_extras() -> set[str]:
    import tomllib

    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@pytest.mark.skipif(util.find_spec("griffe") is None, reason="needs the extra docs")
def test_examples_of_docstrings_are_blocks_of_code() -> None:
    fenced = loaded("doctest_blocks").fenced
    assert fenced("A.\n\n    >>> a  # doctest: +SKIP\n\nB") == "A.\n\n    ```pycon\n    >>> a\n    ```\n\nB"
    assert fenced("A > B") == "A > B"


def test_workflows_and_forms_can_be_read() -> None:
    files = [*Path(ROOT, ".github").rglob("*.yml")]
    assert len(files) == 7
    for file in files:
        values = yaml.safe_load(file.read_text())
        assert values
        for field in values.get("body", []):
            assert {"type", "id", "attributes"} <= set(field)
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "check.yml").read_text()
