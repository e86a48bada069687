"""Faithfulness of given scores: perturb the texts, run the model, read the metrics. Sees scores, never a method."""
