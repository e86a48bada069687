"""A hook of mkdocs: the pages that are made for the site: the reference of the code, the notebooks, CONTRIBUTING.md."""

import ast
import json
import re
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PARTS = {
    "attributor": "Attributors",
    "explanation": "Explanations",
    "explained": "Explained models",
    "methods": "Methods",
    "explainers": "Explainers",
    "metrics": "Metrics",
    "interchange": "Interchange",
    "scored_text": "Scored texts",
    "rendering": "Rendering",
    "attention_heads": "Attention heads",
}
"""The packages of `explainer` whose public names are described, with their titles."""

TRAINING = "Training"

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def exported(file: Path) -> dict[str, str]:
    """The names that a package re-exports (`from module import Name as Name`) or defines, with their places."""
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {one.name: f"{node.module}.{one.name}" for one in node.names if one.asname == one.name}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, package = node.target.id, ".".join(file.parent.relative_to(ROOT).parts)
            found |= {} if name.startswith("_") else {name: f"{package}.{name}"}
    return found


def definition(place: str) -> str:
    """Where a name is defined, when the module that it is taken from re-exports it."""
    module, _, name = place.rpartition(".")
    file = ROOT / module.replace(".", "/") / "__init__.py"
    further = exported(file).get(name) if file.is_file() else None
    return place if further in (None, place) else definition(str(further))


def reference() -> dict[str, dict[str, str]]:
    """The names of each page of the reference, with the places of their definitions."""
    packages = {title: exported(ROOT / "explainer" / part / "__init__.py") for part, title in PARTS.items()}
    pages = {title: {name: definition(place) for name, place in names.items()} for title, names in packages.items()}
    pages[TRAINING] = exported(ROOT / "amortex" / "__init__.py") | exported(
        ROOT / "lightning_modules" / "callbacks" / "__init__.py"
    )
    described = {place for names in pages.values() for place in names.values()}
    for name, place in exported(ROOT / "explainer" / "__init__.py").items():
        if definition(place) not in described:
            pages[PARTS[definition(place).split(".")[1]]][name] = definition(place)
    return pages


def slug(title: str) -> str:
    part = next((part for part, of_part in PARTS.items() if of_part == title), title.lower())
    return f"reference/python/{part.replace('_', '-')}.md"


def page(title: str, names: dict[str, str]) -> str:
    """A page of the reference, which mkdocstrings fills."""
    inherited = "\n    options: {inherited_members: true}" if title == PARTS["attributor"] else ""
    entries = "\n\n".join(f"::: {place}{inherited}" for _, place in sorted(names.items()))
    return f"# {title}\n\nThis page is made of the docstrings.\n\n{entries}\n"


def contents() -> str:
    """The names of `amortex`, each with a link to its entry."""
    public = exported(ROOT / "explainer" / "__init__.py") | exported(ROOT / "amortex" / "__init__.py")
    rows = "\n".join(f"- [`{name}`][{definition(place)}]" for name, place in sorted(public.items()))
    opening = "Every name that `from amortex import ...` gives; without the training modules also from `explainer`."
    return f"# Names\n\n{opening}\n\n{rows}\n"


def notebook_page(file: Path) -> str:
    """A notebook as Markdown: its texts, its code, and the outputs that are stored in it."""
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        is_text = cell["cell_type"] == "markdown"
        parts.append(source.replace(".ipynb)", ".md)") if is_text else f"```python\n{source}\n```")
        parts += [output_block(output) for output in cell.get("outputs", [])]
    download = f"This page is a notebook: [{file.name}]({file.name})."
    return "\n\n".join([parts[0], download, *parts[1:]]) + "\n"


def output_block(output: dict[str, Any]) -> str:
    """An output of a cell as an element of the page: what was printed, or the HTML of a value."""
    shown = {"text/plain": output["text"]} if output["output_type"] == "stream" else output["data"]
    if "text/html" in shown:
        return f'<div class="output">{"".join(shown["text/html"])}</div>'
    return f'<div class="output"><pre><code>{escape("".join(shown["text/plain"]).rstrip())}</code></pre></div>'


def on_config(config: Any) -> Any:
    """Put the pages of the reference into the navigation."""
    python = [{"Names": "reference/python/names.md"}, *({title: slug(title)} for title in reference())]
    for entry in config.nav:
        if isinstance(entry, dict) and "Python" in entry:
            entry["Python"] = python
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    from mkdocs.structure.files import File

    pages = reference()
    made = {slug(title): page(title, names) for title, names in pages.items()}
    made["reference/python/names.md"] = contents()
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    made["CONTRIBUTING.md"] = guide.replace("](docs/", "](")
    made |= {f"notebooks/{file.stem}.md": notebook_page(file) for file in NOTEBOOKS}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to pages that are elsewhere on the site: CONTRIBUTING.md is in this folder, a notebook is a page."""
    markdown = re.sub(r"\]\(((?:\.\./)*)\.\./CONTRIBUTING\.md", r"](\1CONTRIBUTING.md", markdown)
    return re.sub(r"\]\((\S*notebooks/\w[\w-]*)\.ipynb\)", r"](\1.md)", markdown)
