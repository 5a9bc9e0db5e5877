"""Widgets for JupyterLab and Notebook 7: Python computes, JavaScript draws, traits are the contract."""

from workbench.widgets.masked_filling import MaskedFilling

__all__ = ["MaskedFilling"]
