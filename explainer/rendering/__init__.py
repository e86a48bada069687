"""Explanations as terminal text and as figures."""
