"""Attention heads by what they look at: statistics over a parsed corpus, and the mask of the important ones."""

from explainer.heads.mask import HeadMask as HeadMask
