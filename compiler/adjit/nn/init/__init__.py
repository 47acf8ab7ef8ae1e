"""Initial values, from a key: of weights by the rule that suits a layer, and of layers as trees of parameters.

weights   one array by the variance that a rule gives it
layers    what the functions of `nn` that have parameters take
"""

from adjit.nn.init.layers import (
    attention_cache,
    batch_norm,
    dense,
    embedding,
    group_norm,
    gru,
    instance_norm,
    layer_norm,
    lstm,
    multi_head_attention,
    rms_norm,
    rnn,
    spectral_norm,
    transformer_block,
    weight_norm,
)
from adjit.nn.init.weights import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
)

__all__ = [
    "attention_cache", "batch_norm", "dense", "embedding", "glorot_normal", "glorot_uniform", "group_norm", "gru",
    "he_normal", "he_uniform", "instance_norm", "layer_norm", "lecun_normal", "lecun_uniform", "lstm",
    "multi_head_attention", "rms_norm", "rnn", "spectral_norm", "transformer_block", "weight_norm",
]  # fmt: skip
