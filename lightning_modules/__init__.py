"""Everything that needs Lightning: training runs, their data, their callbacks, and the command `explainer`."""
