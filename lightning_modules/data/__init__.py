"""Texts for training runs."""
