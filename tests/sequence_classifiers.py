"""A tiny random classifier of every family that transformers knows, made from the configuration classes themselves.

A family that a new transformers brings is built, and so tested, without a line here. Only families whose sizes depend
on one another need a row in `SPECIAL`.
"""

import inspect
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

MODEL_TYPES = tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
REFUSED = {
    **dict.fromkeys(("canine", "ibert", "perceiver"), "has no `torch.nn.Embedding` for its words"),
    "reformer": "has reversible layers",
}

NOT_BUILT = {"layoutlmv2"}
"""Families that need a package that is not on the package index."""

WORDS = "the a film plot was is good bad great awful not very fun dull and but of it this"


def _each(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SMALL: dict[str, Any] = {
    **_each("hidden_size d_model dim n_embd emb_dim embedding_size d_latents word_embed_proj_dim dim_model_base", 16),
    **_each("input_embedding_size qk_channels v_channels", 16),
    **_each("intermediate_size d_ff hidden_dim encoder_ffn_dim decoder_ffn_dim d_inner dff ffn_dim", 32),
    **_each("moe_intermediate_size shared_expert_intermediate_size ffn_hidden_size n_inner feed_forward_size", 32),
    **_each("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers", 2),
    **_each("num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads", 2),
    **_each("num_self_attention_heads num_cross_attention_heads", 2),
    **_each("num_key_value_heads num_kv_heads n_shared_experts n_group topk_group", 1),
    **_each("max_position_embeddings n_positions max_seq_len", 64),
    **_each("num_experts num_local_experts n_routed_experts", 4),
    **_each("num_experts_per_tok moe_topk", 2),
    **_each("head_dim d_kv d_head kv_channels qk_rope_head_dim qk_nope_head_dim v_head_dim attention_head_size", 8),
    **_each("index_head_dim rotary_dim q_lora_rank kv_lora_rank gated_norm_rank", 8),
}
"""Sizes by the names that the families give them."""

_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    **_each("linear_num_key_heads linear_num_value_heads", 2),
    **_each("linear_key_head_dim linear_value_head_dim", 8),
}
_SPARSE = {"block_size": 4, "num_random_blocks": 1}
_MAMBA = {"use_mamba_kernels": False, "mamba_d_state": 4, "num_key_value_heads": 2}

SPECIAL: dict[str, dict[str, Any]] = {
    **{
        name: {"num_key_value_heads": 2} for name in ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "diffllama", "esmc")
    },
    **{name: {"num_key_value_heads": 2} for name in ("minicpm3", "mistral4")},
    "big_bird": _SPARSE,
    "bigbird_pegasus": _SPARSE,
    "canine": {"num_hash_buckets": 64},
    "cohere_compass_text": {
        "num_key_value_heads": 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")
        },
    },
    "esm": {"position_embedding_type": "absolute", "mask_token_id": 4},
    "funnel": {"block_sizes": [1, 1], "num_decoder_layers": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4, **_MAMBA},
    "layoutlmv3": {"max_2d_position_embeddings": 64, "coordinate_size": 2, "shape_size": 4, "visual_embed": False},
    "lilt": {"hidden_size": 24},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 8},
    "markuplm": {
        **_each("max_xpath_tag_unit_embeddings max_xpath_subs_unit_embeddings", 8),
        **_each("tag_pad_id subs_pad_id", 7),
        "xpath_unit_hidden_size": 4,
    },
    "qwen3_5_text": _LINEAR,
    "qwen3_next": _LINEAR,
    "reformer": {"axial_pos_embds_dim": (8, 8), "axial_pos_shape": (8, 8), "attn_layers": ["local", "lsh"]},
    "roc_bert": _each("pronunciation_vocab_size shape_vocab_size pronunciation_embed_dim shape_embed_dim", 8),
    "xmod": {"default_language": "en_XX"},
    "yoso": {"use_expectation": True},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "hybrid"], "mamba_dt_rank": 4, **_MAMBA},
    "zamba2": {
        **_MAMBA,
        "layers_block_type": ["mamba", "hybrid"],
        "n_mamba_heads": 2,
        "mamba_headdim": 16,
        "chunk_size": 8,
    },
}


def config(model_type: str) -> Any:
    """A tiny configuration of the family, with two layers where it has layers."""
    return _small(CONFIG_MAPPING[model_type], model_type)


def _small(kind: Any, model_type: str) -> Any:
    accepted = inspect.signature(kind.__init__).parameters
    values = {name: value for name, value in SMALL.items() if name in accepted}
    values |= {"num_labels": 3, "vocab_size": len(words(0))} | SPECIAL.get(model_type, {})
    if "vocab_size" not in accepted:
        del values["vocab_size"]
    for part in ("text_config", "vision_config", "encoder", "decoder"):  # of models that are made of two
        default = getattr(kind(), part, None) if part in accepted else None
        if default is not None:
            values[part] = _small(type(default), type(default).model_type).to_dict()
    return kind(**values)


def build(model_type: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The classifier, with weights large enough for texts to be told apart, and a tokenizer that belongs to it."""
    made = config(model_type)
    pads = {getattr(part, "pad_token_id", None) for part in (made, made.get_text_config())}
    tokenizer = words(1 if 1 in pads else 0)
    for part in {id(part): part for part in (made, made.get_text_config())}.values():
        part.pad_token_id = tokenizer.pad_token_id
        if made.is_encoder_decoder:
            part.eos_token_id, part.decoder_start_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(made).eval()
    scale = 1.0 if made.is_encoder_decoder else 2.0
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, scale / parameter.shape[-1] ** 0.5)
    return model, tokenizer


def words(padding: int) -> PreTrainedTokenizerFast:
    """A word tokenizer: <s> text </s>, pairs <s> a </s> b </s>; `padding` is the id of <pad>, 0 or 1."""
    first = ["<pad>", "<unk>"] if padding == 0 else ["<unk>", "<pad>"]
    ids = {word: i for i, word in enumerate([*first, "<s>", "</s>", "<mask>", *WORDS.split()])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[(token, ids[token]) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )
