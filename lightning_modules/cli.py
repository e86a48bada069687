"""The command `explainer`: LightningCLI for training runs, jsonargparse functions for the rest."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from jsonargparse import auto_cli

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


# The commands that are functions of the same name, and the modules they are in.
FUNCTIONS = {
    "export": "lightning_modules.commands.export",
    "attribute": "explainer.commands.attribute",
    "predict": "lightning_modules.commands.predict",
    "evaluate": "explainer.commands.evaluate",
    "compare": "explainer.commands.compare",
    "heads": "explainer.commands.heads",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake ends in one clear line and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    command, rest = arguments[0], arguments[1:]
    try:
        if command in FUNCTIONS:
            options = _flags([_dashes(argument) for argument in rest])
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
    """--batch-tokens and --batch_tokens are one option; jsonargparse knows it by the parameter's name."""
    name, sign, value = argument.partition("=")
    return name.replace("-", "_").replace("__", "--", 1) + sign + value if name.startswith("--") else argument


def _flags(options: Sequence[str]) -> list[str]:
    """An option that no value follows is a switch that is on: --merge for --merge=true."""
    bare = [option.startswith("--") and "=" not in option and option != "--help" for option in options]
    last = [following.startswith("--") for following in [*options[1:], "--"]]
    return [f"{o}=true" if b and end else o for o, b, end in zip(options, bare, last, strict=True)]


def _train(arguments: list[str]) -> Any:
    import pytorch_lightning as pl
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    from lightning_modules.base import TrainingModule
    from lightning_modules.data.text import TextData

    class Command(LightningCLI):
        """The constructors' signatures are the configuration."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.set_defaults({"seed_everything": 0})

        def _parse_ckpt_path(self) -> None:
            before = dict(self.config[self.config.subcommand].get("model", {}).get("init_args", {}))
            super()._parse_ckpt_path()
            after = dict(self.config[self.config.subcommand].get("model", {}).get("init_args", {}))
            changed = {k: (before[k], after.get(k)) for k in before if k in after and before[k] != after[k]}
            if changed:
                told = ", ".join(f"{k}: {theirs!r} instead of {mine!r}" for k, (mine, theirs) in changed.items())
                warnings.warn(f"The checkpoint's hyper-parameters replace those given: {told}.", stacklevel=2)

    # Lightning warns about arguments that its caller gives: they are the process's own here.
    with patch.object(sys, "argv", ["explainer", *arguments]):
        return Command(
            TrainingModule,
            TextData,
            subclass_mode_model=True,
            trainer_class=pl.Trainer,
            save_config_kwargs={"overwrite": True},
        )
