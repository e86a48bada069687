"""Tests of a method: comparisons, sanity checks, robustness. May run methods; knows nothing of a command line."""
