"""What is done with each setting of the files that come with a checkpoint: obeyed, refused, or without harm.

The readers obey. Of other settings that change numbers one value is accepted, the one that the models here
stand for. The rest changes no number, for the reason that stands in front of it. What is in no list is warned
of: newer libraries may have given it a meaning.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

FLOATING = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
Settings = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written; the message is one sentence for the user."""


def title_of(path: Path) -> str:
    """What a user calls a checkpoint: the Hub id of a fetched one, else its file or folder."""
    repo = path.parent.parent.name
    if path.parent.name == "snapshots" and repo.startswith("models--"):
        return repo.removeprefix("models--").replace("--", "/")
    return path.name


@contextmanager
def or_say(sentence: str, *kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds become a `CheckpointError`: the sentence, and the reason behind it."""
    try:
        yield
    except CheckpointError:
        raise
    except kinds as error:
        raise CheckpointError(f"{sentence} ({str(error).rstrip('.')}).") from error


def check_dtype(dtype: Any) -> torch.dtype:
    """One of the types that weights may be of; raises `ValueError` for any other."""
    if dtype not in FLOATING:
        raise ValueError(f"dtype is one of {', '.join(map(str, FLOATING))}, not {dtype!r}.")
    return dtype


@dataclass(frozen=True)
class Rules:
    """The settings of one file; names are divided by blanks."""

    obeyed: str
    only: Settings = field(default_factory=dict)  # the one value that is accepted, besides null
    harmless: dict[str, str] = field(default_factory=dict)  # reason -> names

    def names(self) -> set[str]:
        """All settings that are known."""
        return {*self.obeyed.split(), *self.only, *" ".join(self.harmless.values()).split()}

    def check(self, settings: Settings, file: str) -> None:
        """Warns of settings that are not known; raises `ValueError` for one that cannot be obeyed."""
        for name, accepted in self.only.items():
            value = settings.get(name)
            if value is not None and (type(value), value) != (type(accepted), accepted):
                raise ValueError(f"{name} is {value!r} in {file}, not {accepted!r}")
        if unknown := sorted(settings.keys() - self.names()):
            warnings.warn(
                f"{file} has settings that are not known here: {', '.join(unknown)}. If they change what the "
                "model computes, its numbers are other ones here.",
                stacklevel=2,
            )


def each(names: str, value: Any) -> Settings:
    """The same value for several settings."""
    return dict.fromkeys(names.split(), value)


# --- config.json of transformers -----------------------------------------------------------------

HEADS = "model_type architectures id2label num_labels problem_type "
WORDS = "vocab_size max_position_embeddings tie_word_embeddings tokenizer_class workbench_heads "
ENCODER = """hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act layer_norm_eps
    hidden_dropout_prob attention_probs_dropout_prob qkv_bias """
PATCHES = """image_size patch_size num_channels num_prefix_tokens num_prefix_positions
    position_interpolation"""
ONE_WAY = each("is_decoder add_cross_attention is_encoder_decoder use_swiglu_ffn", False)
ONE_WAY |= each("quantization_config auto_map", None)
ONE_WAY |= {"pruned_heads": {}, "position_embedding_type": "absolute"}
NOTES = {
    "says where the file comes from": """_name_or_path name_or_path transformers_version _commit_hash
        _auto_class finetuning_task language directionality license""",
    "id2label and the tensors say it": """label2id _num_labels tie_weights_ mlp_ratio num_register_tokens
        layerscale_value sinusoidal_pos_embds""",
    "for training": """initializer_range initializer_factor classifier_dropout qa_dropout seq_classif_dropout
        drop_path_rate""",
    "how transformers runs and what it returns; the numbers are the same": """use_cache output_attentions
        output_hidden_states return_dict torchscript chunk_size_feed_forward attn_implementation
        _attn_implementation _attn_implementation_internal gradient_checkpointing use_bfloat16 tf_legacy_loss
        output_past""",
    "the type of the stored numbers; `dtype=` says in which they are computed": "dtype torch_dtype",
    "padding is hidden, whatever its number": "pad_token_id",
    "of poolers that no head reads, and left over from the TensorFlow code": """pooler_act pooler_output_size
        pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type""",
    "of masked patches, of detection and segmentation, which is not done here": """encoder_stride
        use_mask_token apply_layernorm reshape_hidden_states out_features out_indices stage_names""",
    "of generated text and of decoders, which these models are not": """bos_token_id eos_token_id sep_token_id
        cls_token_id decoder_start_token_id cross_attention_hidden_size tie_encoder_decoder max_length
        min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k
        top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
        bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id
        forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
        begin_suppress_tokens prefix task_specific_params""",
}
BERT = Rules(HEADS + WORDS + ENCODER + "type_vocab_size", ONE_WAY | {"norm_first": False}, NOTES)
DISTILBERT = Rules(
    HEADS
    + WORDS
    + "dim n_layers n_heads hidden_dim activation dropout attention_dropout "
    + "hidden_size num_hidden_layers num_attention_heads",  # BERT's names for the same
    ONE_WAY,
    NOTES,
)
VIT = Rules(  # and DeiT, DINOv2
    HEADS + ENCODER + PATCHES,
    ONE_WAY | {"norm_first": True},
    NOTES | {"there are no embeddings of words": "tie_word_embeddings"},
)
SILENT: dict[str, Settings] = {  # what each model_type means where config.json is silent and no tensor tells
    "distilbert": {"num_hidden_layers": 6, "type_vocab_size": 0, "pooler_act": "relu"},
    "vit": {"layer_norm_eps": 1e-12},
    "deit": {"layer_norm_eps": 1e-12},
    "dinov2": {"num_prefix_positions": 1},
    "dinov2_with_registers": {"num_prefix_positions": 1, "position_interpolation": "bicubic-antialias"},
}

# --- timm's config.json, its `pretrained_cfg`, and its `model_args` for VisionTransformer ------------

TIMM = Rules(
    "pretrained_cfg model_args label_names",
    {"global_pool": "token"},
    {
        "says where the file comes from": "architecture tag library_name label_descriptions",
        "the tensors tell": "num_classes num_features",
    },
)
TIMM_PRETRAINED = Rules(
    "input_size interpolation crop_pct crop_mode mean std label_names",
    {"label_offset": 0},
    {
        "says where the file comes from": """url file state_dict hf_hub_id hf_hub_filename source architecture
            tag custom_load license description origin_url paper_name paper_ids notes label_descriptions""",
        "of tests at another size than the usual one": """test_input_size min_input_size fixed_input_size
            test_crop_pct pool_size test_pool_size""",
        "the tensors tell": "num_classes first_conv classifier",
    },
)
TIMM_ARGUMENTS = Rules(
    "img_size num_heads act_layer",
    {"global_pool": "token", "pos_embed": "learn", "norm_layer": "layernorm"}
    | each("class_token final_norm", True)
    | each("pre_norm fc_norm qk_norm scale_attn_norm scale_mlp_norm", False)
    | each("pool_include_prefix dynamic_img_pad", False)
    | each("embed_norm_layer embed_layer block_fn mlp_layer attn_layer", None),
    {
        "the tensors tell": """patch_size in_chans num_classes embed_dim depth mlp_ratio qkv_bias proj_bias
            init_values no_embed_class reg_tokens""",
        "pictures of any size are read": "dynamic_img_size strict_img_size",
        "dropout is for training": """drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate
            drop_path_rate""",
        "start weights are for training from nothing": "weight_init fix_init",
        "`device=` and `dtype=` of the loaders say it": "device dtype",
    },
)

# --- preprocessor_config.json ----------------------------------------------------------------------

PICTURES = Rules(  # its steps of other names are refused if they are on
    """image_processor_type feature_extractor_type do_resize size resample do_center_crop crop_size
    default_to_square do_rescale rescale_factor do_normalize image_mean image_std
    workbench_round_crop workbench_crop_share""",
    each("do_pad rescale_offset", False) | each("pad_size crop_pct size_divisor auto_map", None),
    {
        "pictures are always made RGB, or grey for a model of one channel": "do_convert_rgb",
        "how transformers takes and gives arrays": """data_format input_data_format return_tensors device
            disable_grouping image_seq_length _valid_processor_keys""",
        "names a class": "processor_class _processor_class",
    },
)
# What a silent file means, by the class that it names.
CROPPED = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "resample": 3}
CLIP = CROPPED | {"size": {"shortest_edge": 224}, "default_to_square": False}
CLIP |= {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
PROCESSORS: dict[str, Settings] = {
    "ViT": {"size": 224},
    "DeiT": CROPPED | {"size": {"height": 256, "width": 256}},
    "Bit": CLIP,
    "CLIP": CLIP,
}

# --- tokenizer_config.json, special_tokens_map.json and tokenizer.json -------------------------------

SPECIAL = """added_tokens_decoder additional_special_tokens extra_special_tokens model_specific_special_tokens
    cls_token sep_token mask_token pad_token unk_token bos_token eos_token """
TOKENIZER = Rules(  # any other "..._token" is one more added token
    SPECIAL + "tokenizer_class do_lower_case strip_accents tokenize_chinese_chars",
    {"word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece", "wordpieces_prefix": "##"}
    | each("do_basic_tokenize do_word_tokenize do_subword_tokenize clean_text", True)
    | each("split_special_tokens add_bos_token add_eos_token", False)
    | each("mecab_kwargs sudachi_kwargs jumanpp_kwargs auto_map vocab", None)  # splitters for Japanese
    | {"init_inputs": []},
    {
        "texts are cut or refused by the model's positions": """model_max_length max_len max_length stride
            truncation truncation_side truncation_strategy""",
        "padding is hidden, wherever it stands": "padding padding_side pad_to_multiple_of pad_token_type_id",
        "of transformers' slow tokenizers, which this is not": "never_split use_fast",
        "how transformers finds files and what it returns": """backend name_or_path is_local local_files_only
            special_tokens_map_file tokenizer_file full_tokenizer_file vocab_file model_input_names
            return_token_type_ids processor_class from_slow files_loaded""",
        "of decoded text": """clean_up_tokenization_spaces
            clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output""",
        "of chats": "chat_template response_template response_schema chat_control_tokens verbose",
    },
)
SPECIAL_MAP = Rules(SPECIAL)
WHOLE_TOKENIZER = Rules(
    "normalizer pre_tokenizer post_processor model added_tokens",
    {},
    {
        "texts are not cut, and padded by the model": "truncation padding",
        "of decoded text": "decoder",
        "the form of the file": "version",
    },
)
