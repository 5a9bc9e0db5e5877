"""Checkpoints: the only room that knows other people's parameter names."""

from workbench.checkpoint.read import (
    NSP_LABELS,
    SHIPPED_BERT,
    SHIPPED_VIT,
    data_folder,
    load_bert,
    load_vit,
    make_ready,
    pick_device,
    shipped_checkpoints,
)
from workbench.checkpoint.report import Report, inspect_checkpoint
from workbench.checkpoint.settings import CheckpointError
from workbench.checkpoint.write import save_checkpoint

__all__ = [
    "NSP_LABELS",
    "SHIPPED_BERT",
    "SHIPPED_VIT",
    "CheckpointError",
    "Report",
    "data_folder",
    "inspect_checkpoint",
    "load_bert",
    "load_vit",
    "make_ready",
    "pick_device",
    "save_checkpoint",
    "shipped_checkpoints",
]
