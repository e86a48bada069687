"""Metrics see probabilities and scores, never a model."""

from explainer.metrics.agreement import kendall as kendall
from explainer.metrics.agreement import spearman as spearman
from explainer.metrics.agreement import top_k_overlap as top_k_overlap
from explainer.metrics.base import MeanOverTexts as MeanOverTexts
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
from explainer.metrics.mask_lrp import AnswerPrecision as AnswerPrecision
from explainer.metrics.mask_lrp import MaskLRPAOPC as MaskLRPAOPC
from explainer.metrics.mask_lrp import MaskLRPLogOdds as MaskLRPLogOdds
from explainer.metrics.mask_lrp import answer_precision as answer_precision
from explainer.metrics.mask_lrp import mask_lrp_aopc as mask_lrp_aopc
from explainer.metrics.mask_lrp import mask_lrp_log_odds as mask_lrp_log_odds
from explainer.metrics.morf_lerf import MoRFLeRFArea as MoRFLeRFArea
from explainer.metrics.morf_lerf import morf_lerf_area as morf_lerf_area
from explainer.metrics.normalised import NormalisedAOPC as NormalisedAOPC
from explainer.metrics.normalised import normalised_aopc as normalised_aopc
