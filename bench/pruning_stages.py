"""The stages of `pruning_networks.py`: what is asked of a pruned network, and how each is checked without the pruner's help."""

import contextlib
import copy
import json
import logging
import math
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from paredown.graph.net import Net
from pruning_tools import TOOLS, Masks, Stop
from pruning_zoo import Network

STAGES = ("traced", "pruned", "runs", "trains", "equals", "exports", "reloads")
CLOSE, NEAR = 1e-9, 1e-3


def unsettle(model: nn.Module) -> None:
    """Draw what starts as a constant (norms, scales, biases) and running statistics, in place."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point() and p.numel() > 1 and p.std() == 0:
                p.add_(0.1 * torch.randn(p.shape, generator=draw))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.add_(0.1 * torch.randn(b.shape, generator=draw))
            if name.endswith("running_var"):
                b.mul_(0.5 + torch.rand(b.shape, generator=draw))


class InDouble(TorchFunctionMode):
    """Code that asks for float32 by name gets float64, but for constants: what is computed from no tensor given.

    Those are the numbers that the float32 network has (a table of positions, say), and so those that a file of it stores; in
    more digits the original would be another network, by 1e-8. They are widened where they meet float64.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call with float64 in the place of float32, unless all tensors are constants; then what comes out is one."""
        kwargs, read = kwargs or {}, [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        if all(hasattr(x, "is_constant") for x in read):
            made = func(*args, **kwargs)
            for x in tree_leaves(made):
                if isinstance(x, Tensor):
                    x.is_constant = True
            return made
        func = Tensor.double if func is Tensor.float else func
        args, kwargs = tree_map(widened, (args, kwargs))
        return func(*args, **kwargs)


def widened(leaf: Any) -> Any:
    """Return float64 for float32, and a float64 tensor for a constant of float32."""
    if isinstance(leaf, Tensor):
        return leaf.double() if hasattr(leaf, "is_constant") and leaf.dtype == torch.float32 else leaf
    return torch.float64 if leaf is torch.float32 else leaf


def masked(model: nn.Module, masks: Masks) -> nn.Module:
    """Return a float64 copy with the removed entries at zero; norms take their statistics over the channels that stay."""
    out = copy.deepcopy(model).double().eval()
    stored = {**dict(out.named_parameters(remove_duplicate=False)), **dict(out.named_buffers())}
    with torch.no_grad():
        for name, mask in masks.items():
            if not name.endswith("running_var"):
                stored[name].mul_(mask)
    for name, module in out.named_modules():
        mask = masks.get(f"{name}.weight")
        mixing = "Norm" in type(module).__name__ or "Norm" in str(type(module).__mro__)
        separate = isinstance(module, nn.modules.batchnorm._NormBase) or "BatchNorm" in type(module).__name__
        if mask is not None and mask.dim() == 1 and mixing and not separate:
            module.forward = kept_only(module, mask)
    return out


def kept_only(norm: nn.Module, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the forward of a norm of the channels in `mask` alone; the others are zero."""
    small, keep = copy.deepcopy(norm), mask.nonzero().flatten()
    for name, p in small.named_parameters():
        setattr(small, name, nn.Parameter(p.data.flatten().index_select(0, keep)))
    dim = getattr(norm, "channel_dim", 1 if isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__ else -1)
    if isinstance(norm, nn.GroupNorm):
        counts = [c for c in mask.view(norm.num_groups, -1).sum(1).tolist() if c]
        small.num_groups, small.num_channels = len(counts), len(keep)
        if len(set(counts)) > 1:
            raise Stop("channels of a group norm went unevenly")
    small.normalized_shape = (len(keep),)

    def forward(x: Tensor) -> Tensor:
        return torch.zeros_like(x).index_copy(dim, keep, small(x.index_select(dim, keep)))

    return forward


def gap(wanted: Any, got: Any) -> float:
    """Return the largest difference of any output, relative to its largest value. Raises Stop for other shapes."""
    worst = 0.0
    pairs = zip(*([y for y in tree_leaves(made) if y is not None] for made in (wanted, got)), strict=True)
    for a, b in ((torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs):
        if a.shape != b.shape:
            raise Stop(f"output of shape {list(b.shape)}, not {list(a.shape)}")
        if not torch.isfinite(a).all():
            raise Stop("the original's own output is not finite")
        found = float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-30))
        worst = max(worst, found) if math.isfinite(found) else math.inf
    return worst


def within(limit: float, wanted: Any, got: Any) -> None:
    """Raise Stop where outputs differ by more than the limit."""
    if (found := gap(wanted, got)) > limit:
        raise Stop(f"differs by {found:.1e} of the largest output")


def doubled(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return float64 inputs; tokens stay."""
    return tuple(x.double() if x.is_floating_point() else x for x in inputs)


@dataclass
class Trial:
    """One network under one tool, as far as it has come."""

    network: Network
    tool: Any
    model: nn.Module
    row: dict[str, Any]
    made: Any = None
    start: float = field(default_factory=time.process_time)

    def traced(self) -> None:
        """The tool analyses the network."""
        self.made = self.tool.trace(self.model, self.network)

    def pruned(self) -> None:
        """The tool removes channels."""
        self.made = self.tool.prune(self.made, self.model)
        self.row |= self.made.known
        shapes = {
            name: m.weight
            for name, m in self.model.named_modules()
            if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)
        }
        rows = {name: self.made.masks[f"{name}.weight"] for name in shapes if f"{name}.weight" in self.made.masks}
        gone = sum(int((~mask.flatten(1).any(1)).sum()) for mask in rows.values())
        self.row["rows_removed"] = round(gone / max(1, sum(len(w) for w in shapes.values())), 4)
        sizes = [sum(p.numel() for p in m.parameters()) for m in (self.model, self.made.thin)]
        self.row["prune_s"] = round(time.process_time() - self.start, 2)
        self.row["params"], self.row["params_removed"] = sizes[0], round(1 - sizes[1] / sizes[0], 4)

    def runs(self) -> None:
        """Outputs of the old shapes; the products are counted on the way."""
        outputs, products = [], []
        for model in (self.model, self.made.thin):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                still = (
                    copy.deepcopy(model).eval().requires_grad_(False)
                )  # the counter hooks inputs that want gradients
                outputs.append(still(*self.network.inputs(2, seed=3)))
            products.append(counter.get_total_flops() / 4)  # a MAC is two, and there are two samples
        gap(*outputs)
        if not all(torch.isfinite(y).all() for y in tree_leaves(outputs[1]) if isinstance(y, Tensor)):
            raise Stop("outputs are not finite")
        self.row["macs"] = int(products[0])
        self.row["macs_removed"] = round(1 - products[1] / max(1, products[0]), 4)

    def trains(self) -> None:
        """A step of SGD."""
        before, after = copy.deepcopy(self.model), copy.deepcopy(self.made.thin)
        for model in (before, after):
            optimizer, loss = torch.optim.SGD(model.parameters(), 1e-4), torch.zeros(())
            for y in tree_leaves(model.train()(*self.network.inputs(2, seed=4))):
                loss = loss + y.float().square().mean() if isinstance(y, Tensor) and y.is_floating_point() else loss
            loss.backward()
            optimizer.step()
            if not (torch.isfinite(loss) and all(torch.isfinite(p).all() for p in model.parameters())):
                raise Stop("not finite" if model is after else "the original's own step is not finite")
        held: dict[int, set[str]] = {}
        for name, p in before.named_parameters(remove_duplicate=False):
            held.setdefault(id(p), set()).update({name} if p.grad is not None else ())
        have = self.tool.gradients(after)
        if lost := [min(names) for names in held.values() if names and not names & have]:
            raise Stop(f"{len(lost)} parameters get no gradient any more, {lost[0]} first")
        ties = [
            m
            for m in (before, after)
            if len(list(m.parameters())) < len(list(m.named_parameters(remove_duplicate=False)))
        ]
        if ties == [before] and not isinstance(after, Net):
            raise Stop("a tie of weights is broken")

    def equals(self) -> None:
        """The thin network computes what the masked original does."""
        if self.made.unmaskable:
            raise Stop(self.made.unmaskable)
        inputs = doubled(self.network.inputs(2, seed=5))
        models = masked(self.model, self.made.masks), self.tool.double(self.made.thin), masked(self.model, {})
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad(), InDouble():
                wanted, got, whole = (model(*inputs) for model in models)
        finally:
            torch.set_default_dtype(torch.float32)
        self.row["effect"] = float(f"{gap(whole, wanted):.3g}")
        within(CLOSE, wanted, got)

    def exports(self) -> None:
        """ONNX Runtime computes the same."""
        inputs = self.network.inputs(2, seed=6)
        with torch.no_grad(), TemporaryDirectory() as folder:
            wanted = self.made.thin.eval()(*inputs)
            path = self.tool.export(copy.deepcopy(self.made.thin).eval(), inputs, Path(folder))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            fed = {slot.name: x.numpy() for slot, x in zip(session.get_inputs(), inputs, strict=True)}
            within(NEAR, wanted, session.run(None, fed))

    def reloads(self) -> None:
        """A new process that has the files alone computes the same."""
        inputs = self.network.inputs(2, seed=7)
        with torch.no_grad(), TemporaryDirectory() as folder:
            self.tool.save(self.made.thin, self.network, Path(folder))
            wanted = self.made.thin.eval()(*inputs)
            save_file({str(i): x for i, x in enumerate(inputs)}, f"{folder}/inputs.safetensors")
            code = (
                "import sys, torch; from safetensors.torch import load_file, save_file\n"
                f"folder, name = sys.argv[1:]; {self.tool.RELOAD}\n"
                "x = load_file(folder + '/inputs.safetensors')\n"
                "y = torch.utils._pytree.tree_leaves(net.eval()(*[x[str(i)] for i in range(len(x))]))\n"
                "save_file({str(i): v.detach().contiguous().clone() for i, v in enumerate(y)}, folder + '/outputs.safetensors')"
            )
            paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
            command = [sys.executable, "-c", code, folder, self.network.name]
            ended = subprocess.run(
                command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False
            )
            if ended.returncode:
                raise Stop(ended.stderr.strip().splitlines()[-1][:300])
            got = load_file(f"{folder}/outputs.safetensors")
            within(1e-5, wanted, [got[str(i)] for i in range(len(got))])


def said(error: BaseException) -> str:
    """Return an error in one line, and where it was raised unless it speaks for itself."""
    words = str(error.args[0]) if isinstance(error, Stop) else str(error)
    text = " ".join(words.split())[:400] or "no words"
    if isinstance(error, Stop) or type(error).__name__ in ("BadInput", "Damaged"):
        return text if isinstance(error, Stop) else f"{type(error).__name__}: {text}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"


def attempt(network: Network, tool: str, path: Path) -> None:
    """Take one network through the stages; the row is written after each of them."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    row: dict[str, Any] = {"network": network.name, "family": network.family, "tool": tool, "stages": {}, "why": {}}
    row |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "shapes": str(network.shapes)}
    torch.manual_seed(0)
    model = network.make().eval()
    unsettle(model)
    trial = Trial(network, TOOLS[tool](), model, row)
    for stage in STAGES:
        row["now"] = stage
        keep(path, row)
        try:
            with contextlib.redirect_stdout(None):
                getattr(trial, stage)()
            row["stages"][stage] = True
        except Exception as error:  # noqa: BLE001  (whatever a tool raises is a result)
            row["stages"][stage], row["why"][stage] = False, said(error)
            row |= error.args[1] if isinstance(error, Stop) and len(error.args) > 1 else {}
        row["seconds"] = round(time.process_time() - trial.start, 1)
        if stage in ("traced", "pruned", "runs") and not row["stages"][stage]:
            break
    row.pop("now")
    keep(path, row)


def keep(path: Path, row: dict[str, Any]) -> None:
    """Write a row whole."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(row))
    part.rename(path)
