"""Widgets for JupyterLab and Notebook 7: Python computes, JavaScript draws, traits are the contract."""

from workbench.widgets.attention_explorer import AttentionExplorer
from workbench.widgets.fine_tuning import FineTuning
from workbench.widgets.masked_filling import MaskedFilling
from workbench.widgets.next_sentence import NextSentence
from workbench.widgets.patch_attention import PatchAttention
from workbench.widgets.patch_hiding import PatchHiding
from workbench.widgets.patch_splitter import PatchSplitter
from workbench.widgets.sentence_classifier import SentenceClassifier
from workbench.widgets.sentence_pair import SentencePair
from workbench.widgets.span_extraction import SpanExtraction
from workbench.widgets.token_tagger import TokenTagger

__all__ = [
    "AttentionExplorer",
    "FineTuning",
    "MaskedFilling",
    "NextSentence",
    "PatchAttention",
    "PatchHiding",
    "PatchSplitter",
    "SentenceClassifier",
    "SentencePair",
    "SpanExtraction",
    "TokenTagger",
]
