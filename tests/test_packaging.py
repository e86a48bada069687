"""The package: what it declares, what a light install can do, and the one name `amortex`."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import amortex
import explainer
from explainer import Attributor, SideExplainer
from explainer.extras import EXTRAS, OptionalModule, import_optional
from explainer.methods.trained.amortized import Amortized
from tests.families import explained
from tests.light_install import ROOT, normal, with_dependencies
from tests.test_layers import FILES, OURS, imported

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """The distributions of some requirements, those of our own extras included."""
    found = set()
    for requirement in map(Requirement, requirements):
        if requirement.name == "amortex":
            for extra in requirement.extras:
                found |= names(PROJECT["optional-dependencies"][extra])
        else:
            found.add(normal(requirement.name))
    return found


INSTALLED = packages_distributions()


def distributions_of(module: str) -> set[str]:
    return {normal(name) for name in INSTALLED.get(module, [module])}


def test_what_is_imported_is_declared() -> None:
    declared = names([*PROJECT["dependencies"], "amortex[all]"])
    roots = {module.split(".")[0] for path in FILES for module in imported(path)}
    third = roots - set(sys.stdlib_module_names) - set(OURS) - set(EXTRAS)
    assert {root for root in third if not distributions_of(root) & declared} == set()
    assert {"torch", "yaml", "tokenizers"} <= third


def test_what_is_declared_is_imported() -> None:
    text = "\n".join(path.read_text() for path in FILES)
    used = {name for root in set(re.findall(r"\b[A-Za-z_]+\b", text)) for name in distributions_of(root)}
    # gguf and accelerate are imported by transformers, and tensorboard by Lightning.
    assert names([*PROJECT["dependencies"], "amortex[all]"]) - used <= {"gguf", "accelerate", "tensorboard"}


@pytest.mark.parametrize("package", EXTRAS)
def test_the_extra_that_is_named_installs_the_package(package: str) -> None:
    assert distributions_of(package) <= names(PROJECT["optional-dependencies"][EXTRAS[package]])
    assert not distributions_of(package) & names(PROJECT["dependencies"])


def test_all_and_the_demo_have_what_their_names_say() -> None:
    extras = PROJECT["optional-dependencies"]
    assert names(extras["all"]) == set().union(*(names(extras[e]) for e in extras if e not in ("demo", "test", "docs")))
    assert names(extras["demo"]) >= names(extras["train"])


def test_optional_packages_are_not_imported_by_the_light_part() -> None:
    """At the head of a file, only the parts that a light install does without import them."""
    heavy = {"explainer.data", "explainer.storage", "explainer.evaluation", "explainer.attention_heads"}
    found = set()
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if module.startswith("explainer.") and ".".join(module.split(".")[:2]) not in heavy:
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    roots = (
                        [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                    )
                    found |= {(module, root) for root in roots if root.split(".")[0] in EXTRAS}
    assert {module for module, _ in found} == {"explainer.rendering.plot", "explainer.methods.rpi.figure"}


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)  # importing it raises ModuleNotFoundError
    monkeypatch.delitem(sys.modules, "captum.attr", raising=False)
    with pytest.raises(ModuleNotFoundError, match=re.escape("captum is not installed: pip install 'amortex[compare]'")):
        _ = OptionalModule("captum.attr").Lime
    with pytest.raises(ModuleNotFoundError, match=r"nowhere"):
        import_optional("nowhere")


# The light install

PROGRAM = """
import json, sys
from amortex import Attributor
from explainer.demo import Desk, TextDemo
from lightning_modules.cli import main

folder, place = sys.argv[1:]
explanation = Attributor.from_pretrained(folder)("good bad fine", trust=True)
explanation.show()
explanation.to_html(f"{place}/page.html")
told = {"words": [word.score for word in explanation.words()]}
told["demo"] = Desk(TextDemo(Attributor.from_pretrained(folder))).answer(b"text=good+bad&trust=true").status
main(["attribute", "--method", folder, "--text", "good bad"])
main(["attribute", "--method", folder, "--input", f"{place}/in.jsonl", "--output", f"{place}/out.jsonl"])
main(["attribute", "--method", "attn_lrp", "--model", f"{folder}/explained", "--input", f"{place}/in.jsonl",
      "--output", f"{place}/lrp.jsonl"])
main(["evaluate", "--model", f"{folder}/explained", "--attributions", f"{place}/out.jsonl",
      "--output", f"{place}/metrics.json"])
optional = ("captum", "datasets", "lightning", "matplotlib", "peft", "pyarrow", "pytorch_lightning", "scipy",
            "tensorboard")
told["loaded"] = [name for name in optional if name in sys.modules]
refused = (["fit", "--config", "none.yaml"], ["export", "--attributor", folder, "--output", f"{place}/again"],
           ["predict", "--method", folder, "--data", "a.csv", "--output", place],
           ["compare", "--model", f"{folder}/explained", "--data", "a.csv", "--methods", "sig", "--output", place],
           ["attribute", "--method", "integrated_gradients", "--model", f"{folder}/explained", "--text", "good"])
for arguments in refused:
    try:
        main(arguments)
    except SystemExit as end:
        told[f"{arguments[0]} {arguments[2]}"] = end.code
try:
    explanation.plot()
except ModuleNotFoundError as error:
    told["plot"] = str(error)
print(json.dumps(told))
"""


def test_a_light_install_loads_and_runs_an_exported_attributor(tmp_path: Path) -> None:
    """In a Python where nothing can be imported but the declared dependencies and theirs."""
    model = explained("bert")
    attributor = Attributor(model, Amortized(SideExplainer(model, rank=4)))
    folder = tmp_path / "attributor"
    attributor.save_pretrained(folder, merge=True)
    texts = ["good bad fine", "bad"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    command = [sys.executable, str(ROOT / "tests" / "light_install.py"), PROGRAM, str(folder), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["words"] == pytest.approx([word.score for word in attributor(texts[0]).words()], abs=1e-5)
    assert told["demo"] == 200
    assert told["loaded"] == []
    assert told["plot"] == "matplotlib is not installed: pip install 'amortex[plot]'."
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [len(record["scores"]) for record in records] == [len(one.scores) for one in attributor(texts)]
    assert len((tmp_path / "lrp.jsonl").read_text().splitlines()) == 2
    assert "comprehensiveness" in json.loads((tmp_path / "metrics.json").read_text())
    missing = re.findall(r"explainer (\w+): (\w+) is not installed: pip install 'amortex\[(\w+)\]'", done.stderr)
    assert [(command, extra) for command, _, extra in missing] == [
        ("fit", "train"),
        ("export", "train"),
        ("predict", "train"),
        ("compare", "compare"),
        ("attribute", "compare"),
    ]
    assert [told[key] for key in told if " " in key] == [2] * 5


def test_a_light_install_is_a_small_part_of_the_full_one() -> None:
    light, full = with_dependencies(PROJECT["dependencies"]), names(["amortex[train]"])
    assert not light & {"pytorch-lightning", "tensorboard", "captum", "matplotlib", "datasets", "peft", "pyarrow"}
    assert full - light >= {"pytorch-lightning", "tensorboard", "captum", "matplotlib", "datasets", "peft", "pyarrow"}


# One name, one version


def public(module: object) -> dict[str, object]:
    found = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if not isinstance(value, type(os))}


def test_amortex_has_every_public_name_of_the_packages() -> None:
    for name, value in public(explainer).items():
        assert getattr(amortex, name) is value
    for name, module in amortex.TRAINING.items():
        assert getattr(amortex, name) is getattr(importlib.import_module(module), name)
        assert name in dir(amortex)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = amortex.Nothing
    trainings = {path.stem for path in (ROOT / "lightning_modules").glob("*.py") if "Training(" in path.read_text()}
    assert {module.rpartition(".")[2] for module in amortex.TRAINING.values()} - {"text"} <= trainings


def test_there_is_one_version() -> None:
    assert amortex.__version__ == PROJECT["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_a_release_asks_for_the_version_as_it_stands_in_the_project(tmp_path: Path) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    (check,) = [step["run"] for step in jobs["release"]["steps"] if step.get("name") == "The tag is the version"]
    for tag, status in ((f"v{PROJECT['version']}", 0), (f"v{PROJECT['version']}.1", 1), ("v9", 1)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag})
        assert done.returncode == status


def test_both_scripts_are_the_command() -> None:
    assert set(PROJECT["scripts"].values()) == {"lightning_modules.cli:main"}
    assert set(PROJECT["scripts"]) == {"amortex", "explainer"}
