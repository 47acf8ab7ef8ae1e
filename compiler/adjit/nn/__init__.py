"""Activations, losses, convolutions, pooling, dropout and initial values, in the same plain NumPy that users write.

All work on plain arrays and inside traced functions, keep float32 float32, and are stable at large logits in value and
gradient."""

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
from adjit.nn.convolutions import conv, conv_transpose
from adjit.nn.dropout import dropout
from adjit.nn.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    cross_entropy_with_labels,
    cross_entropy_with_probabilities,
    hinge,
    huber,
    mae,
    mse,
)
from adjit.nn.pooling import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool, resize

__all__ = [
    "adaptive_avg_pool", "avg_pool", "binary_cross_entropy_with_logits", "conv", "conv_transpose", "cross_entropy",
    "cross_entropy_with_labels", "cross_entropy_with_probabilities", "dropout", "elu", "gelu", "global_avg_pool",
    "hinge", "huber", "init", "leaky_relu", "log_softmax", "logsumexp", "mae", "max_pool", "mse", "relu", "resize",
    "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip
