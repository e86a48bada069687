"""python -m lightning_modules = explainer."""

from lightning_modules.cli import main

main()
