"""NNCodec's half of `bench/coding.py`, in an environment of its own: every network at every QP, encoded and decoded again.

    python3 -m venv nnc && nnc/bin/pip install nncodec==2.1.3 numpy==1.26.4 torch==2.13.0 torchvision==0.28.0 opencv-python==4.11.0.86
    nnc/bin/python bench/coding_nncodec.py --work runs/coding        # after `coding.py networks`; resumes

Reads NAME/float.npz; writes NAME/nncodec_WAY_QP.npz: the bitstream's length, and what its decoder makes of it. Ways: "default", as
`nncodec.nn.encode` has it (dependent quantization, parameter optimisation); "opt_qp", a QP for each tensor by the package's own rule;
"rdo", the trellis with a price for rate (lambda_scale 1, which `nncodec.nn.encode` does not pass on). Biases have --bias-qp. Names of
tensors are put as single letters or so: they stand in the bitstream.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # its operators want CUDA; NNCodec imports the package and uses none of them
    NMS = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        NMS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from nncodec import nnc

WAYS: dict[str, dict[str, Any]] = {"default": {}, "opt_qp": {"opt_qp": True}, "rdo": {"lambda_scale": 1.0}}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def short(at: int) -> str:
    """Return the name of tensor number `at`: a, b, … z, ba, bb, …"""
    return (short(at // 26) if at >= 26 else "") + LETTERS[at % 26]


def coded(
    tensors: dict[str, np.ndarray], qp: int, bias_qp: int, way: dict[str, Any]
) -> tuple[int, dict[str, np.ndarray]]:
    """Return the bitstream's bytes, and what is decoded from it."""
    names = {short(at): name for at, name in enumerate(tensors)}
    held = {key: np.ascontiguousarray(tensors[name], np.float32) for key, name in names.items()}
    stream = nnc.compress(
        held, bitstream_path=None, qp=qp, nonweight_qp=bias_qp, use_dq=True, param_opt=True, row_skipping=True,
        return_bitstream=True, **way,
    )  # fmt: skip
    back = nnc.decompress(stream)
    return len(stream), {name: back[key].reshape(tensors[name].shape) for key, name in names.items()}


def main() -> None:
    """Fill in the files that the folder of work lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/coding"))
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--qps", type=int, nargs="*", default=list(range(-14, -41, -1)))
    parser.add_argument("--bias-qp", type=int, default=-32)
    asked = parser.parse_args()
    for source in sorted(asked.work.glob("*/float.npz")):
        with np.load(source) as file:
            tensors = {name: file[name] for name in file.files}
        for way in asked.ways:
            for qp in asked.qps:
                path = source.parent / f"nncodec_{way}_{qp}.npz"
                if path.exists():
                    continue
                start = time.process_time()
                size, back = coded(tensors, qp, asked.bias_qp, WAYS[way])
                np.savez_compressed(path, __bytes__=size, __seconds__=time.process_time() - start, **back)
                print(source.parent.name, way, qp, size, "bytes", flush=True)


if __name__ == "__main__":
    main()
