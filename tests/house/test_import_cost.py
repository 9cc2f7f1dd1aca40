"""What importing costs, and what it must not wake."""

import subprocess
import sys


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def test_importing_adds_little_to_importing_torch():
    code = "import torch, time; t = time.perf_counter(); import paredown; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(3)) < 0.5


def test_importing_wakes_no_torch_no_cuda_and_no_network():
    loaded = fresh("import paredown, sys; print(' '.join(sys.modules))").split()
    assert not {"torch", "requests", "urllib3", "onnxruntime"} & set(loaded)
    assert fresh("import paredown, torch; paredown.find; print(torch.cuda.is_initialized())") == "False"


def test_measuring_a_file_wakes_no_torch():
    loaded = fresh("import paredown.verbs.evaluate, paredown.verbs.report, sys; print(' '.join(sys.modules))").split()
    assert "torch" not in loaded
