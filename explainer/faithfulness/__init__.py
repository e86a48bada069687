"""Faithfulness of given scores: perturb the texts, run the model, compute the metrics. Sees scores, never a method."""

from explainer.faithfulness.measures import faithfulness as faithfulness
