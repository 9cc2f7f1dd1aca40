"""The guides run as they stand, offline, in an empty folder, and what they claim at the end is what they printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "guides"
CLAIMS = {
    "01_smallest_digits.py": r"claim: (\d+) bytes keep (0\.9[3-9]\d*|1\.0+) on the test split, floor 0\.93",
    "02_your_own_network.py": r"claim: \d{3,4} bytes, test accuracy 0\.9\d+, the same in both formats",
    "03_prune_and_verify.py": r"claim: \d+ -> \d+ parameters, masked and shrunk networks differ by \d\.\de-1\d",
    "05_what_it_costs.py": r"claim: 12,501,632 MACs; MicroNet's score on CIFAR-100 would be 0\.\d+, passes: None",
    "06_why_did_accuracy_drop.py": r"claim: 0\.9\d+ -> 0\.\d+, first cause channel_ranges, undone [+]0\.\d+, after it 0\.9\d+",
    "07_prune_any_network.py": r"claim: \d+ -> \d+ parameters, 0\.9\d+ -> 0\.9\d+; 2:4 \d+ -> \d+ bytes, 0\.9\d+",
    "08_deep_compression.py": r"claim: \d+ -> \d+ bytes, [2-9]\d times smaller, test 0\.9\d+ -> 0\.9\d+",
    "04_a_new_method.py": r"claim: \d+ of \d+ parameters are not zero, \d+ -> \d+ bytes, test 0\.9\d+",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_guide_does_what_it_claims(name, tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PAREDOWN_OFFLINE": "1", "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(GUIDES / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(CLAIMS[name], done.stdout.strip().splitlines()[-1]), done.stdout


def test_every_guide_is_tested_short_and_says_what_one_learns():
    found = {path.name: path.read_text() for path in GUIDES.glob("*.py")}
    assert set(found) == set(CLAIMS)
    for text in found.values():
        assert len(text.splitlines()) < 60 and text.startswith('"""You learn: ')
