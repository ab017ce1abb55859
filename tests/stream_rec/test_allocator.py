"""Memory that is freed is kept, unless somebody has said how."""

from __future__ import annotations

import subprocess
import sys

SAID = "from stream_rec.allocator import keep_freed_memory; print(keep_freed_memory())"
FAULTS = """
import resource
from stream_rec.allocator import keep_freed_memory
assert keep_freed_memory()
import torch
torch.set_num_threads(1)
def step():
    held = [torch.ones(1 << 20, device="cpu") for _ in range(40)]
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 40 * 1024  # of 4 KiB, written in all


def test_the_environment_has_the_last_word() -> None:
    command = [sys.executable, "-c", SAID]
    given = subprocess.run(command, env={"MALLOC_TRIM_THRESHOLD_": "1"}, capture_output=True, text=True, check=True)
    assert given.stdout.strip() == "False"


def test_pages_are_not_asked_for_again() -> None:
    """What the default does depends on what lies above the blocks: at worst it asks for every page at every step."""
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 0.05 * PAGES
