"""Checkpoints: the only room that knows other people's parameter names."""

from workbench.checkpoint.read import (
    NSP_LABELS as NSP_LABELS,
    SHIPPED_BERT as SHIPPED_BERT,
    SHIPPED_VIT as SHIPPED_VIT,
    data_folder as data_folder,
    load_bert as load_bert,
    load_vit as load_vit,
    make_ready as make_ready,
    pick_device as pick_device,
    shipped_checkpoints as shipped_checkpoints,
)
from workbench.checkpoint.report import Report as Report, inspect_checkpoint as inspect_checkpoint
from workbench.checkpoint.settings import CheckpointError as CheckpointError
from workbench.checkpoint.write import save_checkpoint as save_checkpoint
