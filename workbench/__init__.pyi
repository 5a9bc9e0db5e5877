"""The names of `import workbench`, for editors and type checkers, and where each of them is loaded from."""

# ruff: noqa: I001

from .attention import (
    ablate as ablate,
    attention_distance as attention_distance,
    attention_entropy as attention_entropy,
    attention_relevance as attention_relevance,
    attention_rollout as attention_rollout,
    mass_mask as mass_mask,
    record_attention as record_attention,
)
from .bert import (
    Bert as Bert,
    BertConfig as BertConfig,
)
from .checkpoint import (
    CheckpointError as CheckpointError,
    inspect_checkpoint as inspect_checkpoint,
    load_bert as load_bert,
    load_vit as load_vit,
    save_checkpoint as save_checkpoint,
    shipped_checkpoints as shipped_checkpoints,
)
from .image import (
    load_image as load_image,
    prepare_image as prepare_image,
)
from .tasks import (
    answer_question as answer_question,
    classify_image as classify_image,
    classify_pair as classify_pair,
    classify_sentence as classify_sentence,
    describe as describe,
    embed as embed,
    fill_mask as fill_mask,
    next_sentence as next_sentence,
    tag_words as tag_words,
)
from .vit import (
    ViT as ViT,
    ViTConfig as ViTConfig,
    join_patches as join_patches,
    split_patches as split_patches,
)

__version__: str
