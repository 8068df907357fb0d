"""Freed tensors of a large model's size leave the resident set; those of a small model stay with the allocator."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import sys, torch
from torch import nn
from phisight.train.acceleration.freed_memory import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

model = nn.Linear(4096, int(sys.argv[1]), bias=False)
done = return_freed_memory(model)
torch.ones(2**19)  # freed at once: from here on glibc by itself keeps tensors of up to 2 MiB
before = resident()
tensors = [torch.ones(3 * 2**17) for _ in range(64)]  # 1.5 MiB each
last = tensors[-1]  # at the end of the heap, above all the others
del tensors
print(done, resident() - before)
"""


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told"
)
def test_a_large_models_freed_tensors_leave_the_memory() -> None:
    def held(rows: int) -> tuple[str, int]:
        command = [sys.executable, "-c", SCRIPT, str(rows)]
        done, bytes_held = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return done, int(bytes_held)

    small, kept = held(64)
    large, given_back = held(4096)
    assert (small, large) == ("False", "True")
    assert kept > 60 * 2**20, "the allocator keeps what the small model freed"
    assert given_back < 10 * 2**20, "one tensor and little else"
