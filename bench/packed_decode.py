"""How fast, and in how much room, the portable C decoder reads the int4 weights of ResNet-50; and how large it is itself.

    python bench/packed_decode.py             # about two minutes

The weights: drawn (Laplace, rounded at 4 bits with a step for each output), in the shapes of `zoo.resnet_50` at a quarter, a half and the whole of its
width, so that the columns a code say that time and room grow with the number of codes. Each file is read by `pdn_open`, `pdn_next`, `pdn_read` (kernels/c/pdn.c
as pip builds it) into rooms of its own size; seconds are the processor's, the best of --rounds, so that other load hardly counts. "layer" is what it takes to read the
last weight alone, passing over the others. room: what the decoder keeps besides the caller's rooms (`pdn_reader_bytes`). code_bytes: `size` of pdn.c compiled
with -Os, for this processor and, where arm-none-eabi-gcc is there, for Cortex-M4; undefined: what `nm -u` says that it needs from elsewhere.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from paredown.cost.measure import processor
from paredown.graph.frozen import Frozen, Rounded, Stored
from paredown.graph.spec import Node, Slot, Spec, Value
from paredown.kernels import decoder
from paredown.kernels.library import library
from paredown.targets.container import write as pack
from paredown.zoo.resolve import network
from tables import write

SOURCES = Path(decoder.__file__).parent / "c"
WIDTHS = (16, 32, 64)


def weights(width: int) -> dict[str, Stored]:
    """Return int4 weights in the shapes of ResNet-50's."""
    net = network({"model": "resnet_50", "width": width}, (3, 64, 64), 1000, 0)
    draw, found = np.random.default_rng(0), {}
    for name, _ in net.weighted():
        shape = tuple(net.slot(name)().shape)
        codes = np.round(draw.laplace(0, 1.3, shape)).clip(-8, 7).astype(np.int8)
        steps = (0.01 * (1 + draw.random(shape[0]))).astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
        found[name] = Rounded(codes, steps, 4)
    return found


def file_of(held: dict[str, Stored]) -> bytes:
    """Return a packed file with these tensors."""
    nodes = [Node(f"n{at}", "add.Tensor", {"self": Value("x"), "other": Slot(name)}) for at, name in enumerate(held)]
    return pack(Frozen(Spec((("x", (1,)),), tuple(nodes), Value("n0")), held))[0]


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Return the processor's time of the best round."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def compiled(compiler: str, *flags: str) -> tuple[int, str]:
    """Return (bytes of code and constants, names that it needs from elsewhere) of the decoder; (0, why) where it does not compile."""
    if shutil.which(compiler) is None:
        return 0, f"no {compiler}"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "pdn.o"
        subprocess.run([compiler, "-std=c99", "-Os", "-ffreestanding", *flags, "-c", SOURCES / "pdn.c", "-o", made], check=True)  # fmt: skip
        prefix = compiler.removesuffix("gcc")
        said = [subprocess.run([prefix + tool, *more, made], check=True, capture_output=True, text=True).stdout
                for tool, more in (("size", []), ("nm", ["-u"]))]  # fmt: skip
    text, data = said[0].splitlines()[1].split()[:2]
    return int(text) + int(data), " ".join(said[1].replace("U ", "").split()) or "nothing"


def main() -> None:
    """Pack, read, say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    own, own_needs = compiled("gcc")
    arm, arm_needs = compiled("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb")
    rows = []
    for width in WIDTHS:
        held = weights(width)
        data, many = file_of(held), sum(stored.value.size for stored in held.values())
        read = decoder.tensors(data)
        assert all(
            (mine.codes == held[name].codes).all()
            for mine, name in zip(read, held, strict=True)  # type: ignore[union-attr]
        )
        whole = seconds(partial(decoder.tensors, data), asked.rounds)
        last = seconds(partial(decoder.tensors, data, {len(held) - 1}), asked.rounds)
        rows.append({
            "network": f"resnet_50, width {width}", "codes": many, "file_bytes": len(data), "bits_a_code": round(8 * len(data) / many, 4),
            "decode_s": round(whole, 4), "ns_a_code": round(1e9 * whole / many, 2), "codes_mb_s": round(many / 2e6 / whole, 2),
            "last_layer_s": round(last, 4), "room_bytes": library().pdn_reader_bytes(), "code_bytes_x86": own, "undefined_x86": own_needs,
            "code_bytes_m4": arm, "undefined_m4": arm_needs, "cpu": processor(), "threads": 1, "rounds": asked.rounds,
            "date": datetime.now(UTC).date().isoformat(),
        })  # fmt: skip
        print(rows[-1])
    write("packed_decode.csv", rows)


if __name__ == "__main__":
    main()
