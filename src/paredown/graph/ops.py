"""The operators a network may be made of: ATen's own names, argument names and defaults.

The table is the allow-list for networks read from files. It needs no torch; a test holds it equal to ATen's schemas
of torch 2.13. An operator's
place in the table is its code in packed files: the common ones stand first, and new ones are only ever appended.
(The test allows that one-element defaults such as stride=[1] are written out per dimension).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paredown.core.errors import BadInput

_TABLE = """
conv2d: input weight bias=null stride=[1,1] padding=[0,0] dilation=[1,1] groups=1
relu: self
linear: input weight bias=null
max_pool2d: self kernel_size stride=[] padding=[0,0] dilation=[1,1] ceil_mode=false
flatten.using_ints: self start_dim=0 end_dim=-1
adaptive_avg_pool2d: self output_size
add.Tensor: self other alpha=1
batch_norm: input weight bias running_mean running_var training momentum eps cudnn_enabled
avg_pool2d: self kernel_size stride=[] padding=[0,0] ceil_mode=false count_include_pad=true divisor_override=null
fake_quantize_per_tensor_affine: self scale zero_point quant_min quant_max
hardtanh: self min_val=-1 max_val=1
mean.dim: self dim keepdim=false dtype=null
view: self size
reshape: self shape
cat: tensors dim=0
mul.Tensor: self other
sigmoid: self
hardswish: self
conv1d: input weight bias=null stride=[1] padding=[0] dilation=[1] groups=1
gelu: self approximate="none"
layer_norm: input normalized_shape weight=null bias=null eps=1e-05 cudnn_enable=true
matmul: self other
permute: self dims
transpose.int: self dim0 dim1
conv1d.padding: input weight bias=null stride=[1] padding="valid" dilation=[1] groups=1
conv2d.padding: input weight bias=null stride=[1,1] padding="valid" dilation=[1,1] groups=1
conv3d: input weight bias=null stride=[1,1,1] padding=[0,0,0] dilation=[1,1,1] groups=1
conv3d.padding: input weight bias=null stride=[1,1,1] padding="valid" dilation=[1,1,1] groups=1
conv_transpose1d: input weight bias=null stride=[1] padding=[0] output_padding=[0] groups=1 dilation=[1]
conv_transpose2d.input: input weight bias=null stride=[1,1] padding=[0,0] output_padding=[0,0] groups=1 dilation=[1,1]
conv_transpose3d.input: input weight bias=null stride=[1,1,1] padding=[0,0,0] output_padding=[0,0,0] groups=1 dilation=[1,1,1]
bmm: self mat2
mm: self mat2
addmm: self mat1 mat2 beta=1 alpha=1
group_norm: input num_groups weight=null bias=null eps=1e-05 cudnn_enabled=true
instance_norm: input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled
rms_norm: input normalized_shape weight=null eps=null
relu6: self
clamp: self min=null max=null
clamp_min: self min
hardsigmoid: self
silu: self
tanh: self
leaky_relu: self negative_slope=0.01
elu: self alpha=1 scale=1 input_scale=1
selu: self
mish: self
softplus: self beta=1 threshold=20
prelu: self weight
softmax.int: self dim dtype=null
log_softmax.int: self dim dtype=null
sub.Tensor: self other alpha=1
div.Tensor: self other
rsub.Scalar: self other alpha=1
neg: self
abs: self
square: self
sqrt: self
rsqrt: self
exp: self
log: self
pow.Tensor_Scalar: self exponent
maximum: self other
minimum: self other
mean: self dtype=null
amax: self dim=[] keepdim=false
amin: self dim=[] keepdim=false
max_pool1d: self kernel_size stride=[] padding=[0] dilation=[1] ceil_mode=false
max_pool3d: self kernel_size stride=[] padding=[0,0,0] dilation=[1,1,1] ceil_mode=false
avg_pool1d: self kernel_size stride=[] padding=[0] ceil_mode=false count_include_pad=true
avg_pool3d: self kernel_size stride=[] padding=[0,0,0] ceil_mode=false count_include_pad=true divisor_override=null
adaptive_avg_pool1d: self output_size
adaptive_max_pool2d: self output_size
t: self
contiguous: self memory_format=0
clone: self memory_format=null
stack: tensors dim=0
split.Tensor: self split_size dim=0
split_with_sizes: self split_sizes dim=0
chunk: self chunks dim=0
unbind.int: self dim=0
narrow: self dim start length
slice.Tensor: self dim=0 start=null end=null step=1
select.int: self dim index
pad: self pad mode="constant" value=null
upsample_nearest2d.vec: input output_size scale_factors
upsample_bilinear2d.vec: input output_size align_corners scale_factors
pixel_shuffle: self upscale_factor
pixel_unshuffle: self downscale_factor
channel_shuffle: self groups
dropout: input p train
feature_dropout: input p train
alpha_dropout: input p train
expand: self size implicit=false
squeeze: self
squeeze.dim: self dim
squeeze.dims: self dim
unsqueeze: self dim
unflatten.int: self dim sizes
roll: self shifts dims=[]
repeat: self repeats
embedding: weight indices padding_idx=-1 scale_grad_by_freq=false sparse=false
scaled_dot_product_attention: query key value attn_mask=null dropout_p=0.0 is_causal=false scale=null enable_gqa=false
sym_size.int: self dim
alias: self
detach: self
linalg_vector_norm: self ord=2 dim=null keepdim=false dtype=null
cumsum: self dim dtype=null
zeros_like: self dtype=null layout=null device=null pin_memory=null memory_format=null
ones_like: self dtype=null layout=null device=null pin_memory=null memory_format=null
to.dtype: self dtype non_blocking=false copy=false memory_format=null
sum.dim_IntList: self dim keepdim=false dtype=null
_fake_quantize_learnable_per_tensor_affine: self scale zero_point quant_min quant_max grad_factor=1.0
getitem: self index
zeros: size dtype=null layout=null device=null pin_memory=null
rnn_tanh.input: input hx params has_biases num_layers dropout train bidirectional batch_first
rnn_relu.input: input hx params has_biases num_layers dropout train bidirectional batch_first
gru.input: input hx params has_biases num_layers dropout train bidirectional batch_first
lstm.input: input hx params has_biases num_layers dropout train bidirectional batch_first
eq.Scalar: self other
ne.Scalar: self other
gt.Scalar: self other
ge.Scalar: self other
lt.Scalar: self other
le.Scalar: self other
masked_fill.Scalar: self mask value
where.self: condition self other
erf: self
sin: self
cos: self
reciprocal: self
flip: self dims
index_select: self dim index
sum: self dtype=null
upsample_bicubic2d.vec: input output_size align_corners scale_factors
grid_sampler: input grid interpolation_mode padding_mode align_corners
"""


@dataclass(frozen=True)
class Op:
    """An operator's name, its position in the table (its code in packed files), argument names and defaults."""

    name: str
    code: int
    names: tuple[str, ...]
    defaults: Mapping[str, Any]


def _parse(table: str) -> dict[str, Op]:
    ops = {}
    for code, line in enumerate(table.strip().splitlines()):
        name, _, signature = line.partition(": ")
        pairs = [term.partition("=") for term in signature.split()]
        defaults = {arg: json.loads(value) for arg, equals, value in pairs if equals}
        ops[name] = Op(name, code, tuple(arg for arg, _, _ in pairs), defaults)
    return ops


OPS = _parse(_TABLE)

CONVOLUTIONS = frozenset(n for n in OPS if n.startswith("conv"))
"""Operators with a spatial kernel in the argument `weight`."""

WEIGHTED = frozenset({*CONVOLUTIONS, "linear"})
"""Operators whose `weight` the compression methods work on."""


def op_named(name: str) -> Op:
    """Return the operator, or raise BadInput saying that it is not in the table."""
    if name not in OPS:
        raise BadInput(
            f"operator {name!r} is not among the {len(OPS)} that paredown knows; rewrite the layer that uses it"
        )
    return OPS[name]
