"""Widgets for JupyterLab and Notebook 7: Python computes, JavaScript draws, traits are the contract."""

from workbench.widgets.attention_explorer import AttentionExplorer
from workbench.widgets.masked_filling import MaskedFilling
from workbench.widgets.next_sentence import NextSentence
from workbench.widgets.sentence_pair import SentencePair
from workbench.widgets.span_extraction import SpanExtraction

__all__ = ["AttentionExplorer", "MaskedFilling", "NextSentence", "SentencePair", "SpanExtraction"]
