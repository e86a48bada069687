"""Metrics see probabilities and scores, never a model."""

from explainer.metrics.agreement import kendall as kendall
from explainer.metrics.agreement import spearman as spearman
from explainer.metrics.agreement import top_k_overlap as top_k_overlap
from explainer.metrics.bootstrap import Estimate as Estimate
from explainer.metrics.bootstrap import bootstrap_mean as bootstrap_mean
from explainer.metrics.completeness import completeness_gap as completeness_gap
from explainer.metrics.faithfulness import AOPCComprehensiveness as AOPCComprehensiveness
from explainer.metrics.faithfulness import AOPCSufficiency as AOPCSufficiency
from explainer.metrics.faithfulness import Comprehensiveness as Comprehensiveness
from explainer.metrics.faithfulness import LogOdds as LogOdds
from explainer.metrics.faithfulness import Sufficiency as Sufficiency
from explainer.metrics.faithfulness import aopc as aopc
from explainer.metrics.faithfulness import comprehensiveness as comprehensiveness
from explainer.metrics.faithfulness import log_odds as log_odds
from explainer.metrics.faithfulness import sufficiency as sufficiency
