"""Options that several of the terminal's verbs have, each with its help."""

from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, everything else on standard error.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A zoo id, path/to/file.py:function, or a file.onnx. Default: search a small dense family.",
    ),
]
Out = Annotated[str | None, typer.Option("--out", help="Where to write. Default: a fresh folder below runs/.")]
Targets = Annotated[
    list[str] | None, typer.Option("--target", help="packed or onnx; may be given again. The first is minimised.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
