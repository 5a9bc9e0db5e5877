"""BERT & ViT Workbench: one Transformer encoder, two front doors, small heads; see README.

`import workbench as wb` gives the names below; widgets are in `workbench.widgets`. A name is loaded
when it is first used, so that the `workbench` command does not wait for PyTorch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attention": [
            "ablate",
            "attention_distance",
            "attention_entropy",
            "attention_relevance",
            "attention_rollout",
            "mass_mask",
            "record_attention",
            "top_attended",
        ],
        "bert": ["Bert", "BertConfig"],
        "checkpoint": [
            "CheckpointError",
            "inspect_checkpoint",
            "load_bert",
            "load_vit",
            "save_checkpoint",
            "shipped_checkpoints",
        ],
        "image": ["load_image", "prepare_image"],
        "tasks": [
            "answer_question",
            "classify_image",
            "classify_pair",
            "classify_sentence",
            "describe",
            "embed",
            "fill_mask",
            "next_sentence",
            "tag_words",
        ],
        "vit": ["ViT", "ViTConfig", "join_patches", "split_patches"],
    },
)
