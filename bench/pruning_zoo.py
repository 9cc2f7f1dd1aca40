"""The networks of `pruning_networks.py`: timm's and torchvision's by name, and small ones that are awkward to prune on purpose.

Each of the small ones has one habit of real code that a tracer of channels may trip over. Nothing is downloaded; weights are
random. Detectors are their tensor part alone (backbone, pyramid, heads): what follows it chooses boxes by their values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Run = Callable[[Any, Tensor], Any]
PICTURE, SEQUENCE = (3, 32, 32), (12, 24)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def plain(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3×3 convolution with a bias and nothing after it."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Written(nn.Module):
    """Layers by name, and the function of this module and the input that is its forward."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


class WrittenForTwo(Written):
    """The same with two inputs."""

    def forward(self, x: Tensor, facts: Tensor) -> Any:
        return self.run(self, x, facts)


def headed(run: Run, width: int = 32, **layers: Any) -> Written:
    """Return a stem to 32 channels at half the size, what `run` makes of them, pooling and a head on `width` features."""
    layers |= {"stem": conv(3, 32, stride=2), "head": nn.Linear(width, 10)}
    return Written(lambda m, x: m.head(run(m, m.stem(x)).mean((2, 3))), **layers)


def flattened(m: Any, x: Tensor) -> Tensor:
    """Flatten by a reshape that keeps the batch."""
    x = m.body(x)
    return m.head(m.hidden(x.reshape(x.shape[0], -1)).relu())


def flat(run: Run) -> Written:
    """Return two convolutions and two linear layers, with what flattens between them to be written."""
    body = nn.Sequential(conv(3, 16, stride=4), conv(16, 32, stride=2))
    return Written(run, body=body, hidden=nn.Linear(32 * 4 * 4, 64), head=nn.Linear(64, 10))


def chunk_gate(m: Any, x: Tensor) -> Tensor:
    """Half of the channels gate the other half."""
    value, gate = m.wide(x).chunk(2, dim=1)
    return value * gate.sigmoid()


def uneven_split(m: Any, x: Tensor) -> Tensor:
    """The channels are split 8 to 24 and go different ways."""
    few, many = x.split([8, 24], dim=1)
    return torch.cat([m.many(many), m.few(few)], dim=1)


def shuffle(m: Any, x: Tensor) -> Tensor:
    """Grouped convolutions with a shuffle between them."""
    b, c, h, w = (x := m.first(x)).shape
    return m.second(x.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w))


def functional(m: Any, x: Tensor) -> Tensor:
    """Convolutions called as functions, with bare parameters."""
    return F.conv2d(F.conv2d(x, m.first, padding=1).relu(), m.second, padding=1).relu()


def recurrent(kind: type[nn.RNNBase], both: bool = False) -> Written:
    """Return an input layer, a recurrent layer and two linear layers on its last step."""
    layer, width = kind(32, 24, batch_first=True, bidirectional=both), 48 if both else 24
    return Written(
        lambda m, x: m.head(m.hidden(m.layer(m.enter(x).relu())[0][:, -1]).relu()),
        enter=nn.Linear(24, 32), layer=layer, hidden=nn.Linear(width, 32), head=nn.Linear(32, 10),
    )  # fmt: skip


def attentive(attend: Run, qkv: nn.Module | None = None) -> Written:
    """Return attention with norm and residual, as `attend` writes it, a block of two linear layers, pooling and a head."""

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.enter(x)
        x = x + m.project(attend(m, m.norm(x)))
        return m.head((x + m.mix(x)).mean(1))

    mix = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
    layers = {"enter": nn.Linear(24, 32), "norm": nn.LayerNorm(32), "qkv": qkv or nn.Linear(32, 96)}
    return Written(run, **layers, project=nn.Linear(32, 32), mix=mix, head=nn.Linear(32, 10))


def chunked(m: Any, x: Tensor) -> Tensor:
    """One layer makes query, key and value, which are chunked; the size of a head is left to the view."""
    query, key, value = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in m.qkv(x).chunk(3, dim=-1))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def hard_heads(m: Any, x: Tensor) -> Tensor:
    """Attention written out, with the number and the size of heads in the code."""
    query, key, value = m.qkv(x).reshape(-1, 12, 3, 4, 8).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-2, -1) * 8**-0.5).softmax(dim=-1)
    return (weights @ value).transpose(1, 2).reshape(-1, 12, 32)


def one_key(m: Any, x: Tensor) -> Tensor:
    """Multi-query attention: four heads of queries share one key and one value."""
    query, key, value = m.qkv(x).split([32, 8, 8], dim=-1)
    query = query.unflatten(-1, (4, 8)).transpose(1, 2)
    weights = (query @ key.unsqueeze(1).transpose(-2, -1) * 8**-0.5).softmax(dim=-1)
    return (weights @ value.unsqueeze(1)).transpose(1, 2).flatten(2)


def own_module(m: Any, x: Tensor) -> Tensor:
    """torch's MultiheadAttention."""
    return m.qkv(x, x, x, need_weights=False)[0]


def two_heads(pack: Callable[[Tensor, Tensor], Any]) -> Written:
    """Return a body with two heads, whose answers `pack` puts together."""

    def run(m: Any, x: Tensor) -> Any:
        x = m.block(m.stem(x))
        return pack(m.head(x.mean((2, 3))), m.head_maps(x))

    layers = {"stem": conv(3, 32, stride=2), "block": conv(32, 32), "head": nn.Linear(32, 10)}
    return Written(run, **layers, head_maps=nn.Conv2d(32, 4, 1))


def tied_embedding() -> Written:
    """A language model whose head is its embedding."""
    net = Written(
        lambda m, tokens: m.head(m.back(m.hidden(m.embed(tokens)).relu())),
        embed=nn.Embedding(50, 32), hidden=nn.Linear(32, 64), back=nn.Linear(64, 32), head=nn.Linear(32, 50, bias=False),
    )  # fmt: skip
    net.head.weight = net.embed.weight
    return net


def tied_transposed(m: Any, x: Tensor) -> Tensor:
    """An autoencoder whose decoder is its encoder's weight transposed."""
    x = m.second(m.first(x).relu()).relu()
    return F.linear(F.linear(x, m.second.weight.t()).relu(), m.first.weight.t())


def dense(m: Any, x: Tensor) -> Tensor:
    """Every layer reads all that came before it, concatenated."""
    for layer in m.layers:
        x = torch.cat([x, layer(x)], dim=1)
    return x


def squeeze(m: Any, x: Tensor) -> Tensor:
    """An inverted residual with squeeze-and-excitation."""
    y = m.depth(m.wide(x))
    return x + m.thin(y * F.hardsigmoid(m.squeeze(y)))


def norm_last(m: Any, x: Tensor) -> Tensor:
    """A ConvNeXt block: channels go last for the norm and the linear layers; a scale for each channel; a residual."""
    y = m.norm(m.depth(x).permute(0, 2, 3, 1))
    return x + (m.gamma * m.thin(F.gelu(m.wide(y)))).permute(0, 3, 1, 2)


def padded_skip(m: Any, x: Tensor) -> Tensor:
    """ResNet's option A: the skip gets channels of zeros."""
    return (m.block(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 16, 16))).relu()


def u_net(m: Any, x: Tensor) -> Tensor:
    """Down and up again, with skips and interpolation to the size of the skip."""
    kept = []
    for layer in m.down:
        kept.append(x := layer(x))
    for layer, skip in zip(m.up, (kept[1], kept[0]), strict=True):
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        x = layer(torch.cat([x, skip], dim=1))
    return m.head(x)


def bilinear(m: Any, x: Tensor) -> Tensor:
    """The outer product of two sets of features, flattened."""
    x = m.stem(x)
    left, right = (branch.flatten(2) for branch in (m.left(x), m.right(x)))
    return m.head((left @ right.transpose(1, 2)).flatten(1))


def transformer(m: Any, x: Tensor) -> Tensor:
    """Features sampled on a grid that the features give."""
    grid = F.affine_grid(m.place(m.where(x).flatten(1)).view(-1, 2, 3), list(x.shape), align_corners=False)
    return m.after(F.grid_sample(x, grid, align_corners=False))


def masked() -> Written:
    """A stored mask of channels and one of positions."""
    net = headed(lambda m, x: m.block(x) * m.channels * m.places, block=conv(32, 32))
    net.register_buffer("channels", (torch.arange(32) % 4 > 0).float().view(1, 32, 1, 1))
    net.register_buffer("places", torch.ones(16, 16).tril())
    return net


def two_inputs(m: Any, x: Tensor, facts: Tensor) -> Tensor:
    """A picture and a vector, joined before the head."""
    joined = torch.cat([m.look(x).mean((2, 3)), m.read(facts).relu()], dim=1)
    return m.head(m.hidden(joined).relu())


def maxout(m: Any, x: Tensor) -> Tensor:
    """The larger of two channels, by a view."""
    b, c, h, w = (x := m.wide(x)).shape
    return x.view(b, c // 2, 2, h, w).amax(2)


def channel_softmax(m: Any, x: Tensor) -> Tensor:
    """Weights of channels that sum to one."""
    return m.after(x * m.weigh(x.mean((2, 3))).softmax(dim=1)[:, :, None, None])


def parameter(*shape: int) -> nn.Parameter:
    """Return a random parameter, small where it sums over many."""
    return nn.Parameter(torch.randn(shape) / (torch.zeros(shape[1:]).numel() ** 0.5))


AWKWARD: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]] = {
    "hard_view": (lambda: flat(lambda m, x: m.head(m.hidden(m.body(x).view(-1, 32 * 4 * 4)).relu())), (PICTURE,)),
    "reshape_flat": (lambda: flat(flattened), (PICTURE,)),
    "chunk_gate": (lambda: headed(chunk_gate, wide=conv(32, 64)), (PICTURE,)),
    "uneven_split": (lambda: headed(uneven_split, few=conv(8, 8), many=conv(24, 24)), (PICTURE,)),
    "channel_shuffle": (lambda: headed(shuffle, first=conv(32, 32, 1, groups=4), second=conv(32, 32, groups=4)), (PICTURE,)),
    "functional_conv": (lambda: headed(functional, first=parameter(32, 32, 3, 3), second=parameter(32, 32, 3, 3)), (PICTURE,)),
    "called_twice": (lambda: headed(lambda m, x: m.block(m.other(m.block(x))), block=conv(32, 32), other=conv(32, 32)), (PICTURE,)),
    "lstm": (lambda: recurrent(nn.LSTM), (SEQUENCE,)),
    "gru": (lambda: recurrent(nn.GRU), (SEQUENCE,)),
    "lstm_both_ways": (lambda: recurrent(nn.LSTM, both=True), (SEQUENCE,)),
    "attention_chunked": (lambda: attentive(chunked), (SEQUENCE,)),
    "attention_hard_heads": (lambda: attentive(hard_heads), (SEQUENCE,)),
    "attention_one_key": (lambda: attentive(one_key, nn.Linear(32, 48)), (SEQUENCE,)),
    "attention_module": (lambda: attentive(own_module, nn.MultiheadAttention(32, 4, batch_first=True)), (SEQUENCE,)),
    "tuple_out": (lambda: two_heads(lambda a, b: (a, b)), (PICTURE,)),
    "dict_out": (lambda: two_heads(lambda a, b: {"classes": a, "maps": b}), (PICTURE,)),
    "tied_embedding": (tied_embedding, ((12,),)),
    "tied_transposed": (lambda: Written(tied_transposed, first=nn.Linear(40, 32), second=nn.Linear(32, 16)), ((40,),)),
    "dense": (lambda: headed(dense, 80, layers=nn.ModuleList(conv(32 + 16 * i, 16) for i in range(3))), (PICTURE,)),
    "pixel_shuffle": (lambda: headed(lambda m, x: m.after(F.pixel_shuffle(m.up(x), 2).relu()), 16, up=plain(32, 64), after=conv(16, 16)), (PICTURE,)),
    "grouped_transposed": (lambda: headed(lambda m, x: m.after(m.up(x).relu()), 16, up=nn.ConvTranspose2d(32, 24, 4, 2, 1, groups=4), after=conv(24, 16)), (PICTURE,)),
    "depthwise_squeeze": (lambda: headed(
        squeeze, wide=conv(32, 96, 1), depth=conv(96, 96, 5, groups=96), thin=nn.Conv2d(96, 32, 1),
        squeeze=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(96, 24, 1), nn.ReLU(), nn.Conv2d(24, 96, 1))), (PICTURE,)),
    "group_norm": (lambda: headed(lambda m, x: m.after(m.norm(m.block(x)).relu()), block=plain(32, 32), norm=nn.GroupNorm(8, 32), after=conv(32, 32)), (PICTURE,)),
    "layer_norm_last": (lambda: headed(
        norm_last, depth=nn.Conv2d(32, 32, 7, padding=3, groups=32), norm=nn.LayerNorm(32), wide=nn.Linear(32, 96),
        thin=nn.Linear(96, 32), gamma=parameter(32)), (PICTURE,)),
    "weight_norm": (lambda: headed(
        lambda m, x: m.after(m.normed(x).relu()), normed=nn.utils.parametrizations.weight_norm(plain(32, 32)), after=conv(32, 32)), (PICTURE,)),
    "einsum": (lambda: headed(lambda m, x: m.after(torch.einsum("bchw,dc->bdhw", x, m.mix).relu()), mix=parameter(48, 32), after=conv(48, 32)), (PICTURE,)),
    "padded_skip": (lambda: headed(padded_skip, 64, block=nn.Sequential(conv(32, 64, stride=2), plain(64, 64))), (PICTURE,)),
    "u_net": (lambda: Written(
        u_net, down=nn.ModuleList([conv(3, 16), conv(16, 32, stride=2), conv(32, 48, stride=2)]),
        up=nn.ModuleList([conv(80, 32), conv(48, 16)]), head=nn.Conv2d(16, 2, 1)), (PICTURE,)),
    "prelu": (lambda: headed(lambda m, x: m.after(m.slope(m.block(x))), block=plain(32, 32), slope=nn.PReLU(32), after=conv(32, 32)), (PICTURE,)),
    "bilinear_pooling": (lambda: Written(
        bilinear, stem=conv(3, 32, stride=2), left=conv(32, 12), right=conv(32, 8), head=nn.Linear(96, 10)), (PICTURE,)),
    "spatial_transformer": (lambda: headed(transformer, where=conv(32, 8, stride=4), place=nn.Linear(8 * 4 * 4, 6), after=conv(32, 32)), (PICTURE,)),
    "buffer_mask": (masked, (PICTURE,)),
    "glu": (lambda: headed(lambda m, x: F.glu(m.wide(x), dim=1), wide=plain(32, 64)), (PICTURE,)),
    "two_inputs": (lambda: WrittenForTwo(
        two_inputs, look=nn.Sequential(conv(3, 16, stride=2), conv(16, 32)), read=nn.Linear(12, 24), hidden=nn.Linear(56, 32),
        head=nn.Linear(32, 10)), (PICTURE, (12,))),
    "maxout": (lambda: headed(maxout, wide=plain(32, 64)), (PICTURE,)),
    "channel_softmax": (lambda: headed(channel_softmax, weigh=nn.Linear(32, 32), after=conv(32, 32)), (PICTURE,)),
}  # fmt: skip
"""Name to (a function that makes the network, the shape of a sample of each input). `tied_embedding` reads tokens 0 to 49."""


TIMM = """
resnet18 resnet50 resnetv2_18 resnext50_32x4d wide_resnet50_2 seresnet50 skresnet18 resnest14d res2net50_26w_4s ecaresnet26t
dpn68 cspresnet50 densenet121 inception_v3:96 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small_050 mixnet_s
efficientnet_b0 efficientnet_lite0 tf_efficientnetv2_b0 mnasnet_small fbnetc_100 ghostnet_050 hardcorenas_a lcnet_035 tinynet_e
regnetx_002 regnety_002 nf_regnet_b0 gernet_s repvgg_a0 hrnet_w18_small dla46_c ese_vovnet19b_dw selecsls42b tresnet_m
hgnetv2_b0 convnext_atto convnextv2_atto convmixer_768_32 mambaout_femto mixer_s32_224:0 gmlp_ti16_224:0 resmlp_12_224:0
vit_tiny_patch16_224:0 deit_tiny_patch16_224:0 levit_128s:0 swin_tiny_patch4_window7_224:0 pvt_v2_b0 poolformer_s12
coat_lite_tiny:0 twins_svt_small:0 mobilevit_xxs mobilevitv2_050 efficientformer_l1:0 efficientformerv2_s0:0 efficientvit_b0
efficientvit_m0:0 edgenext_xx_small crossvit_9_240:0 cait_xxs24_224:0 xcit_nano_12_p16_224:0 pit_ti_224:0
maxvit_rmlp_pico_rw_256:0 coatnet_pico_rw_224:0 fastvit_t8 repghostnet_050 repvit_m0_9 starnet_s050 inception_next_atto
visformer_tiny:0 sequencer2d_s:0 focalnet_tiny_srf
"""
"""Names, and after a colon the side of the picture: 64 where there is none, 0 for the only one that the model takes."""

VISION = """
alexnet vgg11_bn squeezenet1_1 googlenet shufflenet_v2_x0_5 mnasnet0_5 mobilenet_v2 mobilenet_v3_small efficientnet_b0
regnet_y_400mf resnet18 densenet121 convnext_tiny swin_t vit_b_32:224 segmentation.fcn_resnet50
segmentation.lraspp_mobilenet_v3_large segmentation.deeplabv3_mobilenet_v3_large detection.ssdlite320_mobilenet_v3_large:320
detection.retinanet_resnet50_fpn:128 detection.fasterrcnn_mobilenet_v3_large_320_fpn:128
"""
"""The same for torchvision's models; the folder stands before a point."""

ANSWERS = (1000, 91, 21)
"""How many classes the networks by name have: a layer with so many outputs is the head."""


@dataclass(frozen=True)
class Network:
    """A network by name: `make()` returns it, `shapes` are those of its inputs, `tokens` says that these are 0 to 49."""

    name: str
    family: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    tokens: bool = False

    def inputs(self, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Return random samples."""
        draw = torch.Generator().manual_seed(seed)
        if self.tokens:
            return tuple(torch.randint(0, 50, (batch, *shape), generator=draw) for shape in self.shapes)
        return tuple(torch.randn((batch, *shape), generator=draw) for shape in self.shapes)

    def heads(self, model: nn.Module) -> list[nn.Module]:
        """Return the layers whose outputs are the network's answer, which a user tells a pruner to leave alone."""
        if self.family == "awkward":
            return [layer for name, layer in model.named_children() if name.startswith("head")]
        layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        heads = [m for m in layers if m.weight.shape[0] in ANSWERS]
        return heads + [m for m in getattr(model, "heads", nn.Module()).modules() if m in layers and m not in heads]


class Detector(nn.Module):
    """The part of one of torchvision's detectors that computes on tensors alone: backbone, pyramid, heads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.heads = model.rpn.head if hasattr(model, "rpn") else model.head

    def forward(self, x: Tensor) -> Any:
        return self.heads(list(self.backbone(x).values()))


def from_timm(name: str) -> nn.Module:
    """Return one of timm's models."""
    return import_module("timm").create_model(name, pretrained=False)


def from_torchvision(name: str) -> nn.Module:
    """Return one of torchvision's models, without the heads that only help training."""
    folder, _, own = name.rpartition(".")
    asked = {"weights_backbone": None} if folder else {}
    asked |= {"aux_logits": False, "init_weights": False} if own == "googlenet" else {}
    model = getattr(import_module(f"torchvision.models.{folder}".rstrip(".")), own)(weights=None, **asked)
    return Detector(model) if folder == "detection" else model


def side_of(name: str, asked: str) -> int:
    """Return the side of a picture for one of timm's models."""
    return int(asked or 64) or import_module("timm").get_pretrained_cfg(name).input_size[1]


def networks() -> dict[str, Network]:
    """Return every network, by a name that is a file's too."""
    found = []
    for entry in TIMM.split():
        name, _, side = entry.partition(":")
        found.append(Network(f"timm-{name}", "timm", lambda n=name: from_timm(n), ((3, *[side_of(name, side)] * 2),)))
    for entry in VISION.split():
        name, _, side = entry.partition(":")
        shape = (3, int(side or 64), int(side or 64))
        found.append(Network(f"vision-{name}", "torchvision", lambda n=name: from_torchvision(n), (shape,)))
    for name, (make, shapes) in AWKWARD.items():
        found.append(Network(f"awkward-{name}", "awkward", make, shapes, tokens=name == "tied_embedding"))
    return {network.name: network for network in found}
