"""Widgets for JupyterLab and Notebook 7: Python computes, JavaScript draws, traits are the contract."""

from workbench.widgets.attention_explorer import AttentionExplorer as AttentionExplorer
from workbench.widgets.fine_tuning import FineTuning as FineTuning
from workbench.widgets.masked_filling import MaskedFilling as MaskedFilling
from workbench.widgets.next_sentence import NextSentence as NextSentence
from workbench.widgets.patch_attention import PatchAttention as PatchAttention
from workbench.widgets.patch_hiding import PatchHiding as PatchHiding
from workbench.widgets.patch_splitter import PatchSplitter as PatchSplitter
from workbench.widgets.sentence_classifier import SentenceClassifier as SentenceClassifier
from workbench.widgets.sentence_pair import SentencePair as SentencePair
from workbench.widgets.span_extraction import SpanExtraction as SpanExtraction
from workbench.widgets.token_tagger import TokenTagger as TokenTagger
