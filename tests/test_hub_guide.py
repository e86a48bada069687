"""The guide on public classifiers: its commands run on small random models of the same families, without the upload."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from lightning_modules.cli import main
from tests.pages import ROOT, SMALL, commands
from tests.sequence_classifiers import MODEL_TYPES, NOT_BUILT, REFUSED, build
from tests.test_docs import quoted, table

GUIDE = ROOT / "docs" / "guides" / "attributors-to-make-first.md"
ROWS = table(GUIDE.read_text(), "model")
FAMILIES = {quoted(row[0])[0]: quoted(row[2])[0] for row in ROWS}
LABELS = {quoted(row[0])[0]: row[1] for row in ROWS}
FITS = [words for words in commands(GUIDE) if words[1] == "fit"]


@dataclass(frozen=True)
class Row:
    """The commands of one model."""

    model: str
    name: str
    commands: list[list[str]] = field(hash=False)

    @property
    def family(self) -> str:
        return FAMILIES[self.model]


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def rows() -> list[Row]:
    found = []
    for words in FITS:
        name = option(words, "--trainer.logger.init_args.name")
        ours = [other for other in commands(GUIDE) if any(f"runs/{name}/" in word for word in other)]
        found.append(Row(option(words, "--model.init_args.explained"), name, [words, *ours]))
    return found


def chosen() -> list[Row]:
    """Rows that together have every family, every kind of labels, and pairs: the others differ in names."""
    found, seen = list[Row](), set[str]()
    for row in sorted(rows(), key=lambda row: "--data.text_pair" not in row.commands[0]):
        labels = LABELS[row.model]
        kinds = {kind for kind in ("each by itself", "one value") if kind in labels} or {"one of several"}
        if not {row.family, *kinds} <= seen:
            found.append(row)
            seen |= {row.family, *kinds}
    return found


def saved(row: Row, folder: Path) -> str:
    """A small model of the row's family, whose labels are of the row's kind."""
    model, tokenizer = build(row.family)
    if "each by itself" in LABELS[row.model]:
        model.config.problem_type = "multi_label_classification"
    if "one value" in LABELS[row.model]:
        model.config.num_labels = 1
        model = type(model)(model.config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def texts(folder: Path, name: str) -> None:
    """The three files that a row names."""
    for split, n in (("train", 8), ("validation", 2), ("test", 2)):
        lines = "".join(f"the film {i} was dull,a good plot {i}\n" for i in range(n))
        (folder / f"{name}-{split}.csv").write_text("text,text_pair\n" + lines)


def small(words: list[str], name: str) -> list[str]:
    """A command on a small budget, with files in place of a data set of the hub."""
    if "--data.name" in words and option(words, "--data.name") != "null":
        given = words.index("--data.name")
        files = f"{{train: {name}-train.csv, validation: {name}-validation.csv, test: {name}-test.csv}}"
        local = ["--data.name", "null", "--data.files", files, "--data.label", "null"]
        words = words[:given] + local + words[given + 2 :]
        limit = words.index("--data.limit")
        words = words[:limit] + words[limit + 2 :]
    return [*words[1:], *SMALL.get(words[1], [])]


def test_every_model_has_its_commands_and_a_family_that_is_served() -> None:
    assert {row.model for row in rows()} == set(FAMILIES)
    assert len(FAMILIES) == len(ROWS) == len({row.name for row in rows()})
    assert set(FAMILIES.values()) <= set(MODEL_TYPES) - set(REFUSED) - NOT_BUILT
    for row in rows():
        kinds = [words[1] for words in row.commands]
        own = ["fit", "export", "compare", "export"]
        assert kinds == (own if row.family == "deberta-v2" else ["fit", "test", "export"])
        assert all(row.model in words for words in row.commands if words[1] in ("fit", "compare"))
        (upload,) = [option(words, "--push") for words in row.commands if "--push" in words]
        assert upload == f"NAME/{row.model.split('/')[1]}-attributor"


def test_the_page_says_what_was_not_tried() -> None:
    assert "Nothing on this page was run on the models that it names" in " ".join(GUIDE.read_text().split())
    assert not re.search(r"\d[\d,.]*\s*(?:k|million|M)?\s+downloads", GUIDE.read_text())


def test_the_configurations_of_the_other_trainings_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    for row in set(rows()) - set(chosen()):
        with pytest.raises(SystemExit) as end:
            main([*row.commands[0][1:], "--print_config"])
        assert end.value.code == 0
        given = yaml.safe_load(capsys.readouterr().out)
        assert given["model"]["init_args"]["explained"] == row.model
        assert set(given["model"]["init_args"]["teachers"]) == {"subset_regression"}
        assert given["trainer"]["logger"]["init_args"]["name"] == row.name


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("row", chosen(), ids=lambda row: row.name)
def test_the_commands_run_on_a_small_model_of_the_family(
    row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training of each; the rest for one model of each list of commands."""
    monkeypatch.chdir(tmp_path)
    texts(tmp_path, row.name)
    model = saved(row, tmp_path / "model")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    whole = row.name in ("sst2", "claims")
    for words in row.commands if whole else row.commands[:1]:
        words = [model if word == row.model else word for word in words]
        if "--push" in words:
            place = words.index("--push")
            words = [*words[:place], *words[place + 2 :]]
        if words[1:2] == ["export"] and "--output" not in words:
            continue  # the upload alone
        main(small(words, row.name))
    assert (tmp_path / "runs" / row.name / "version_0" / "checkpoints" / "best.ckpt").is_file()
    if whole:
        assert (tmp_path / "runs" / row.name / "attributor" / "model.safetensors").is_file()
