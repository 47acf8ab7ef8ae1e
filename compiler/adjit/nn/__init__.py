"""Activations, losses, layers, convolutions, pooling, normalisations and initial values, in the same plain NumPy that
users write.

All work on plain arrays and inside traced functions, keep float32 float32, and are stable at large logits in value and
gradient. Parameters are dicts of arrays, which `nn.init` makes."""

from typing import TYPE_CHECKING

from adjit.nn import init
from adjit.nn.activations import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from adjit.nn.classification import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_with_labels,
    cross_entropy_with_probabilities,
    focal,
)
from adjit.nn.convolutions import conv, conv_transpose
from adjit.nn.dense import dense, embedding, residual
from adjit.nn.dropout import dropout
from adjit.nn.losses import (
    cosine_loss,
    cosine_similarity,
    hinge,
    huber,
    kl_divergence,
    mae,
    mse,
    triplet,
)
from adjit.nn.pooling import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool, resize
from adjit_runtime.public import late

if TYPE_CHECKING:
    from adjit.nn.attending import attention
    from adjit.nn.normalization import (
        batch_norm,
        group_norm,
        instance_norm,
        layer_norm,
        rms_norm,
        spectral_norm,
        weight_norm,
    )
    from adjit.nn.ordering import top_k, unique
    from adjit.nn.recurrent import gru, lstm, rnn
    from adjit.nn.segments import one_hot, segment_max, segment_mean, segment_min, segment_sum
    from adjit.nn.sequence_losses import ctc
    from adjit.nn.transformer import multi_head_attention, transformer_block

__all__ = [
    "adaptive_avg_pool", "attention", "avg_pool", "batch_norm", "binary_cross_entropy_with_logits", "conv",
    "conv_transpose", "cosine_loss", "cosine_similarity", "cross_entropy", "cross_entropy_with_labels",
    "cross_entropy_with_probabilities", "ctc", "dense", "dropout", "elu", "embedding", "focal", "gelu",
    "global_avg_pool", "group_norm", "gru", "hinge", "huber", "init", "instance_norm", "kl_divergence", "layer_norm",
    "leaky_relu", "log_softmax", "logsumexp", "lstm", "mae", "max_pool", "mse", "multi_head_attention", "one_hot",
    "relu", "residual", "resize", "rms_norm", "rnn", "segment_max", "segment_mean", "segment_min", "segment_sum",
    "sigmoid", "silu", "softmax", "softplus", "spectral_norm", "tanh", "top_k", "transformer_block", "triplet",
    "unique", "weight_norm",
]  # fmt: skip

_LATE = {
    name: module
    for module, names in {
        "adjit.nn.attending": "attention",
        "adjit.nn.sequence_losses": "ctc",
        "adjit.nn.normalization": "batch_norm group_norm instance_norm layer_norm rms_norm spectral_norm weight_norm",
        "adjit.nn.ordering": "top_k unique",
        "adjit.nn.recurrent": "gru lstm rnn",
        "adjit.nn.segments": "one_hot segment_max segment_mean segment_min segment_sum",
        "adjit.nn.transformer": "multi_head_attention transformer_block",
    }.items()
    for name in names.split()
}
"""What programs without it need not wait for, loops among it: it is imported when it is first asked for."""
__getattr__, __dir__ = late(globals(), _LATE)
