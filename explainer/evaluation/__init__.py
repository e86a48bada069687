"""Tests of methods: comparison, sanity, infidelity, sensitivity, completeness. Runs methods, never a command line."""
