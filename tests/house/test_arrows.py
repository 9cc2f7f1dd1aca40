"""Who may import whom: the house's arrows (decisions/0002), read from the source."""

import ast
from pathlib import Path

import paredown

ROOT = Path(paredown.__file__).parent
MAY = {
    "core": set(),
    "graph": {"core"},
    "cost": {"core", "graph"},
    "data": {"core"},
    "zoo": {"core", "graph"},
    "train": {"core", "graph"},
    "methods": {"core", "graph", "cost"},
    "targets": {"core", "graph", "cost", "methods.code", "kernels.streams"},
    "search": {"core", "graph", "cost", "train", "data", "zoo", "targets"},
    "diagnose": {"core", "graph", "cost", "train"},
    "reports": {"core"},
    "rules": {"core", "graph", "cost"},
    "kernels": {"core", "graph"},
}
TORCHLESS = (
    "core",
    "data",
    "targets",
    "reports",
    "graph/ops.py",
    "graph/spec.py",
    "graph/frozen.py",
    "graph/patterns.py",
    "methods/code",
    "rules",
    "kernels/library.py",
    "kernels/streams.py",
    "kernels/decoder.py",
    "kernels/codes.py",
    "kernels/product.py",
    "kernels/real.py",
)


def imports(path):
    """Yield (imported module, whether at the top level) for every import of a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, top


def sources():
    return [p for p in ROOT.rglob("*.py")]


def test_every_import_follows_an_arrow():
    wrong = []
    for path in sources():
        room = path.relative_to(ROOT).parts[0]
        for module, _ in imports(path):
            if room in MAY and module.startswith("paredown."):
                target = module.removeprefix("paredown.")
                allowed = MAY[room] | {room}
                if not any(target == a or target.startswith(a + ".") for a in allowed):
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, wrong


def test_no_family_of_methods_imports_another():
    pieces = {"loss", "score", "saliency", "structure", "sensitivity", "grid", "habit", "code"}
    wrong = []
    for path in (ROOT / "methods").rglob("*.py"):
        family = path.parent.name
        for module, _ in imports(path):
            if module.startswith("paredown.methods."):
                other = module.split(".")[2]
                if other != family and other not in pieces:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, wrong


def test_rooms_that_run_without_torch_do_not_import_it():
    wrong = []
    for place in TORCHLESS:
        files = [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py")
        wrong += [f"{path}" for path in files for module, _ in imports(path) if module.split(".")[0] == "torch"]
    assert not wrong, wrong


def test_imports_inside_functions_are_for_optional_packages_or_the_lazy_front():
    fronts = {"cli.py", "__init__.py"}
    optional = {"timm", "torchvision", "litert_torch", "executorch", "openvino", "ray", "mlflow"}
    wrong = []
    for path in sources():
        if path.relative_to(ROOT).as_posix() in fronts:
            continue
        for module, top in imports(path):
            if not top and module.split(".")[0] not in optional:
                wrong.append(f"{path.relative_to(ROOT)}: {module}")
    assert not wrong, wrong


def test_only_the_terminal_prints_and_nothing_unpickles():
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print" or path.name == "cli.py", path
                assert node.func.id not in ("eval", "exec"), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pickle.load", "pickle.loads", "joblib.load"):
                raise AssertionError(f"{path} unpickles")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
