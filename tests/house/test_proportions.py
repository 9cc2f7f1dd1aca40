"""The house's proportions: short functions, short files, few arguments, no junk drawers."""

import ast
from pathlib import Path

import paredown

ROOT = Path(paredown.__file__).parent
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
KEYWORD_VERBS = {"find", "apply", "analyze", "evaluate", "export"}
"""The surface's verbs have the surface's options; the terminal's functions mirror them."""


def functions():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_files_are_under_400_lines():
    long = {str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long, long


def test_functions_are_under_60_lines_and_mostly_short():
    sizes = {f"{p.relative_to(ROOT)}:{f.name}": f.end_lineno - f.lineno + 1 for p, f in functions()}
    assert max(sizes.values()) <= 60, [k for k, v in sizes.items() if v > 60]
    assert sorted(sizes.values())[len(sizes) // 2] <= 12


def test_functions_take_at_most_seven_arguments():
    for path, f in functions():
        if f.name in KEYWORD_VERBS and path.name in ("cli.py", "find.py", "evaluate.py"):
            continue
        count = (
            len(f.args.args)
            + len(f.args.kwonlyargs)
            - (1 if f.args.args and f.args.args[0].arg in ("self", "cls") else 0)
        )
        assert count <= 7, f"{path.relative_to(ROOT)}:{f.name} takes {count}"


def test_no_module_is_a_junk_drawer():
    assert not [p for p in ROOT.rglob("*.py") if p.stem in BANNED]


def test_no_default_is_mutable():
    for path, f in functions():
        for default in [*f.args.defaults, *f.args.kw_defaults]:
            assert not isinstance(default, ast.List | ast.Dict | ast.Set), f"{path}:{f.name}"


def test_public_functions_and_classes_are_documented():
    bare = []
    for path in ROOT.rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                bare.append(f"{path.relative_to(ROOT)}:{node.name}")
    bare = [name for name in bare if not name.startswith(("cli.py", "targets/lower_"))]
    assert not bare, bare
