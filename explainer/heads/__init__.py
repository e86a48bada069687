"""Attention heads by what they look at: statistics over a parsed corpus, and the mask of the important ones."""

from explainer.heads.alignment import Arc as Arc
from explainer.heads.alignment import arcs as arcs
from explainer.heads.mask import HeadMask as HeadMask
from explainer.heads.parses import Parse as Parse
from explainer.heads.parses import Word as Word
from explainer.heads.parses import read_conllu as read_conllu
from explainer.heads.statistics import HeadShares as HeadShares
from explainer.heads.statistics import HeadStatistics as HeadStatistics
