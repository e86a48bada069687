"""The command `explainer`: LightningCLI for training runs, functions read by jsonargparse for the rest."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from jsonargparse import auto_cli

from lightning_modules.quiet import silence

USAGE = """usage: explainer COMMAND [options]      (explainer COMMAND --help shows a command's options)

Train and test, by a configuration file:
  fit        train:                       explainer fit --config configs/demo.yaml
  validate   validation metrics of a checkpoint
  test       compare with other methods:  explainer test --config configs/demo.yaml --ckpt_path CKPT

Use:
  export     checkpoint -> folder:        explainer export --ckpt CKPT --output DIR
             attributor -> ONNX:          explainer export --attributor DIR --onnx model.onnx
  attribute  texts -> attributions:       explainer attribute --method DIR --text "a witty film"
  predict    a data set -> Parquet shards: explainer predict --method DIR --data DATA --output DIR
  evaluate   attributions -> faithfulness
  compare    methods on one data set:     explainer compare --model MODEL --data DATA --methods a,b,c --output DIR
  heads      parsed texts -> the attention heads that matter
"""

FUNCTIONS = {
    "export": "lightning_modules.commands.export",
    "attribute": "explainer.commands.attribute",
    "predict": "lightning_modules.commands.predict",
    "evaluate": "explainer.commands.evaluate",
    "compare": "explainer.commands.compare",
    "heads": "explainer.commands.heads",
}
"""The commands that are functions of the same name, and their modules."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake ends in one clear line and exit code 2."""
    silence()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    command, options = arguments[0], arguments[1:]
    try:
        if command in FUNCTIONS:
            options = _flags([_dashes(option) for option in options])
            auto_cli(_function(command), args=options, as_positional=False, prog=f"explainer {command}")
        elif command in ("fit", "validate", "test"):
            _train(arguments)
        else:
            raise ValueError(f"there is no command {command!r}\n\n{USAGE}")
    except (ValueError, TypeError, FileNotFoundError) as error:
        if os.environ.get("AMORTEX_TRACEBACK"):
            raise
        print(f"explainer {command}: {error}\n(AMORTEX_TRACEBACK=1 shows where)", file=sys.stderr)
        raise SystemExit(2) from error


def _function(command: str) -> Callable[..., None]:
    return getattr(importlib.import_module(FUNCTIONS[command]), command)


def _dashes(argument: str) -> str:
    """The option as jsonargparse knows it, by the parameter's name: --batch-tokens becomes --batch_tokens."""
    name, sign, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + sign + value if name.startswith("--") else argument


def _flags(options: Sequence[str]) -> list[str]:
    """The options with those that no value follows switched on: --merge becomes --merge=true."""
    bare = [option.startswith("--") and "=" not in option and option != "--help" for option in options]
    last = [following.startswith("--") for following in [*options[1:], "--"]]
    return [f"{o}=true" if b and end else o for o, b, end in zip(options, bare, last, strict=True)]


def _train(arguments: list[str]) -> Any:
    # Lightning takes seconds to import, and the other commands do without it.
    import pytorch_lightning as pl
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    from lightning_modules.base import TrainingModule
    from lightning_modules.callbacks.progress_lines import use_lines
    from lightning_modules.data.text import TextData

    class Command(LightningCLI):
        """The constructors' signatures are the configuration."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.set_defaults({"seed_everything": 0})

        def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            use_lines(trainer)
            return trainer

        def _parse_ckpt_path(self) -> None:
            given = self._model_arguments()
            super()._parse_ckpt_path()
            used = self._model_arguments()
            changed = [name for name in given if name in used and given[name] != used[name]]
            if changed:
                changes = ", ".join(f"{name}: {used[name]!r} instead of {given[name]!r}" for name in changed)
                warnings.warn(f"The checkpoint's hyper-parameters replace those given: {changes}.", stacklevel=2)

        def _model_arguments(self) -> dict[str, Any]:
            return dict(self.config[self.config.subcommand].get("model", {}).get("init_args", {}))

    # Lightning warns of arguments that its caller hands over: here they are the process's own.
    with patch.object(sys, "argv", ["explainer", *arguments]):
        return Command(
            TrainingModule,
            TextData,
            subclass_mode_model=True,
            trainer_class=pl.Trainer,
            save_config_kwargs={"overwrite": True},
        )
