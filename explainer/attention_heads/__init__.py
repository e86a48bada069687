"""Attention heads by the words they attend to: statistics over a parsed corpus, and the mask of the important heads."""

from explainer.attention_heads.alignment import Arc as Arc
from explainer.attention_heads.alignment import arcs as arcs
from explainer.attention_heads.mask import HeadMask as HeadMask
from explainer.attention_heads.parses import Parse as Parse
from explainer.attention_heads.parses import Word as Word
from explainer.attention_heads.parses import read_conllu as read_conllu
from explainer.attention_heads.statistics import HeadShares as HeadShares
from explainer.attention_heads.statistics import HeadStatistics as HeadStatistics
