"""Freed memory stays with the process while it trains, and goes back afterwards."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medaug.generators.memory import kept


def faults(steps: int = 20) -> int:
    """Pages that the system had to hand out for as many steps, each with arrays of 4 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        some = [torch.ones(1 << 20) for _ in range(4)]
        some.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    pages = 20 * 4 * (4 << 20) // resource.getpagesize()
    with kept():
        faults(2)
        assert faults() < 0.1 * pages
        some = [torch.ones(1 << 20) for _ in range(40)]
        held = resident()
        some.clear()
        assert resident() > held - (20 << 20)
    assert resident() < held - (120 << 20)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="not Linux")
def test_kept_inside_and_given_back() -> None:
    """In a process of its own: what a heap looks like depends on all that came before."""
    ended = subprocess.run([sys.executable, __file__], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


if __name__ == "__main__":
    main()
