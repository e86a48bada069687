"""python -m amortex = explainer."""

from lightning_modules.cli import main

main()
