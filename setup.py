"""The low-bit kernels: a plain shared library beside the Python files, built where there is a C compiler. pyproject.toml holds the rest."""

import os
from glob import glob

from setuptools import Extension, setup

FOLDER = "src/paredown/kernels/c"
# Optional: without a compiler the install succeeds, and paredown.kernels says what to do. No header of Python is needed.
KERNELS = Extension(
    "paredown.kernels._kernels",
    sources=sorted(glob(f"{FOLDER}/*.c")),
    depends=[f"{FOLDER}/kernels.h"],
    extra_compile_args=[] if os.name == "nt" else ["-std=c11", "-O3", "-g0", "-ffp-contract=off", "-Wall", "-Wextra"],
    optional=True,
)

setup(ext_modules=[KERNELS])
