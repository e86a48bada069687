"""Scores of other tools as explanations of ours, and ours in forms that others read. No tool is imported to be read."""

from explainer.interchange.reading import from_captum as from_captum
from explainer.interchange.reading import from_ferret as from_ferret
from explainer.interchange.reading import from_inseq as from_inseq
from explainer.interchange.reading import from_lime as from_lime
from explainer.interchange.reading import from_shap as from_shap
from explainer.interchange.reading import from_transformers_interpret as from_transformers_interpret
from explainer.interchange.recorded import Recorded as Recorded
from explainer.interchange.writing import to_pandas as to_pandas
from explainer.interchange.writing import to_shap as to_shap
