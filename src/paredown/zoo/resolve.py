"""From what a person types after --model to a network."""

import difflib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import paredown.zoo
from paredown.core.errors import BadInput
from paredown.graph.capture import capture
from paredown.graph.from_onnx import from_onnx
from paredown.graph.net import Net

Maker = Callable[..., nn.Module]


@cache
def models() -> dict[str, Maker]:
    """Return {id: function(shape, classes, **settings)} of every model of the zoo: its public functions with that signature."""
    found: dict[str, Maker] = {}
    for module_info in pkgutil.iter_modules(paredown.zoo.__path__, "paredown.zoo."):
        module = importlib.import_module(module_info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            public = function.__module__ == module.__name__ and not name.startswith("_")
            if public and list(inspect.signature(function).parameters)[:2] == ["shape", "classes"]:
                found[name] = function
    return dict(sorted(found.items()))


def network(spec: Mapping[str, Any], shape: tuple[int, ...], classes: int, seed: int = 0) -> Net:
    """Return the captured network that `spec` ({"model": …, settings…}) describes, its weights drawn with `seed`.

    Raises BadInput for an unknown model, settings it does not take, or one that does not fit the samples.
    """
    module = made(spec, shape, classes, seed)
    _tried(str(spec["model"]), module, shape)
    net = capture(module, torch.rand(2, *shape))
    scores = net.eval()(torch.rand(2, *shape))
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != (2, classes):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise BadInput(
            f"model {spec['model']} returns {got} for two samples; this task needs scores of shape (2, {classes})"
        )
    return net


def made(spec: Mapping[str, Any], shape: tuple[int, ...], classes: int, seed: int = 0) -> nn.Module:
    """Return the module that `spec` describes, its weights drawn with `seed` or loaded. Raises BadInput."""
    settings = {
        k: tuple(v) if isinstance(v, list) else v for k, v in spec.items() if k not in ("model", "weights", "digest")
    }
    torch.manual_seed(seed)
    module = module_of(str(spec["model"]), shape, classes, settings)
    if spec.get("weights"):
        load_weights_(module, Path(str(spec["weights"])))
    return module


def _tried(name: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Run the module once, so that a misfit is told in the words of its own layers."""
    try:
        with torch.no_grad():
            module.eval()(torch.rand(2, *shape))
    # The user's forward may raise anything; all of it is the user's to read, in one line.
    except Exception as error:
        raise BadInput(f"model {name} does not run on samples of shape {shape}: {_line(error)}") from error


def module_of(name: str, shape: tuple[int, ...], classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """Return the torch module that a model's name stands for. Raises BadInput."""
    if name in models():
        return _called(name, models()[name], shape, classes, settings)
    if name.endswith(".onnx"):
        if settings:
            raise BadInput(f"model {name} takes no {sorted(settings)[0]!r}; an ONNX file is what it is")
        return from_onnx(name, shape)
    if name.startswith(("timm:", "torchvision:")):
        return _from_library(name, classes)
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _called(name, _function(Path(path), function), shape, classes, settings)
    near = difflib.get_close_matches(name, models(), 3) or ["dense", "lenet_5", "resnet_small"]
    known = f"{', '.join(near)}, path/to/file.py:function or a file.onnx"
    raise BadInput(f"model {name!r} is unknown; give one of {known}; `paredown models` lists them")


def _called(name: str, function: Maker, shape: tuple[int, ...], classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """Call a model function with what it asks for: nothing, or (shape, classes) and settings."""
    parameters = inspect.signature(function).parameters
    offered: dict[str, Any] = {"shape": shape, "classes": classes, "num_classes": classes, **settings}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if (unknown := set(settings) - set(parameters)) and not open_ended:
        raise BadInput(f"model {name} takes no {sorted(unknown)[0]!r}; it takes {', '.join(parameters) or 'nothing'}")
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in offered
    ]
    if missing:
        raise BadInput(
            f"model {name} wants {missing[0]!r}, which is unknown here; give it a default, or use shape, classes or num_classes"
        )
    try:
        module = function(**{k: v for k, v in offered.items() if k in parameters})
    except BadInput:
        raise
    # The user's function may raise anything; all of it is the user's to read, in one line.
    except (Exception, SystemExit) as error:
        raise BadInput(f"model {name} raised {_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise BadInput(f"model {name} returned a {type(module).__name__}; it must return a torch.nn.Module")
    return module


def _function(path: Path, name: str) -> Maker:
    if not path.exists():
        raise BadInput(f"model file {path} does not exist; write it like path/to/file.py:function")
    spec = importlib.util.spec_from_file_location(f"paredown_user_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    # The user's file may raise anything; all of it is the user's to read, in one line.
    except (Exception, SystemExit) as error:
        raise BadInput(f"model file {path} raised {_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == spec.name]
        raise BadInput(f"model file {path} has no function {name!r}; it has {', '.join(names) or 'none'}")
    return function


def _from_library(name: str, classes: int) -> nn.Module:
    library, _, model = name.partition(":")
    try:
        if library == "timm":
            import timm

            return timm.create_model(model, pretrained=False, num_classes=classes)
        import torchvision

        return torchvision.models.get_model(model, weights=None, num_classes=classes)
    except ImportError as error:
        raise BadInput(
            f"model {name} needs {library}, which is not installed; pip install 'paredown[vision]'"
        ) from error
    except (RuntimeError, ValueError, TypeError) as error:
        raise BadInput(f"model {name} cannot be made: {str(error).splitlines()[0]}") from error


def _line(error: BaseException) -> str:
    """Return the class and the first line of an error."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def load_weights_(module: nn.Module, path: Path) -> None:
    """Load a state dict into a module, in place: safetensors, or torch's format with weights_only=True. Raises BadInput."""
    try:
        state = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
    except OSError as error:
        raise BadInput(f"weights {path} cannot be read: {error.strerror or error}") from error
    # Bytes that are no state dict make torch's reader raise a dozen unrelated classes (struct.error, IndexError, …).
    except Exception as error:
        what = f"weights {path} are neither safetensors nor a plain state dict; nothing is unpickled"
        raise BadInput(f"{what}: {_line(error)[:120]}") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise BadInput(
            f"weights {path} are not a state dict of tensors; save them with torch.save(model.state_dict(), path)"
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(f"weights {path} do not fit the model: {' '.join(str(error).split())[:160]}") from error
