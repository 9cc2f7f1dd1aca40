"""Damage packed files for minutes, with checksums that fit, and let the C decoder read them under sanitizers.

    python bench/packed_fuzz.py                     # ten minutes
    python bench/packed_fuzz.py --seconds 60 --seed 5

Files of every kind of tensor (tests/targets) are cut, overwritten and have bits changed; the decoder (kernels/c/pdn.c), compiled with the
address and undefined-behaviour sanitizers, reads each into rooms of exactly the size that it asked for. The result, one line, goes to
bench/results/packed_fuzz.csv. A crash, a hang (an hour) or a step out of bounds ends the run with the sanitizer's words.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tables import write

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
SOURCES = ROOT / "src/paredown/kernels/c"


def main() -> None:
    """Compile, damage, say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("there is no C compiler: install gcc or clang")
    sys.path[:0] = [str(TESTS), str(TESTS / "targets")]
    from test_decoder import files

    with tempfile.TemporaryDirectory() as folder:
        driver = os.path.join(folder, "driver")
        flags = ["-std=c99", "-O2", "-g", f"-I{SOURCES}", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        subprocess.run([compiler, *flags, TESTS / "targets/pdn_driver.c", SOURCES / "pdn.c", "-o", driver], check=True)
        paths = files(Path(folder))
        done = subprocess.run([driver, "--fuzz", str(asked.seconds), str(asked.seed), *paths], capture_output=True, text=True,
                              timeout=asked.seconds + 3600, check=False)  # fmt: skip
    print(done.stdout or done.stderr)
    if done.returncode:
        raise SystemExit(1)
    words = done.stdout.split()
    write("packed_fuzz.csv", [{
        "seconds": asked.seconds, "seed": asked.seed, "kinds": len(paths), "damaged": int(words[0]), "read": int(words[3]),
        "crashes": 0, "compiler": subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0],
        "sanitizers": "address, undefined", "date": datetime.now(UTC).date().isoformat(),
    }])  # fmt: skip


if __name__ == "__main__":
    main()
