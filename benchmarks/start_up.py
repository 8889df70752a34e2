"""CPU time of starting: this package beside torch and the hosts, each anew.

``python benchmarks/start_up.py [--rounds 10]``
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from aib_mm.experiments.provenance import machine_line

ROOT = Path(__file__).parents[1]
#: What Python is started with, by what it does; the first is the measure.
COMMANDS = {
    'import torch': ['-c', 'import torch'],
    'python -m aib_mm --help': ['-m', 'aib_mm', '--help'],
    'tools/train.py --help': [str(ROOT / 'tools/train.py'), '--help'],
    'import mmdet.models': ['-c', 'import mmdet.models'],
    '… and aib_mm': ['-c', 'import mmdet.models, aib_mm'],
    'import aib_mm, all hosts': ['-c', 'import aib_mm'],
}


def cpu_seconds(arguments: list[str]) -> float:
    """CPU time of Python with these arguments and of what it starts."""
    before = os.times()
    command = [sys.executable, '-W', 'ignore', *arguments]
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # of ended children


def main() -> None:
    """Print a row for each command, in turn within a round."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=10)
    rounds = parser.parse_args().rounds
    found = [[cpu_seconds(one) for one in COMMANDS.values()] for _ in range(rounds)]
    print('| command | CPU s | × import torch |\n|---|--:|--:|')
    for i, name in enumerate(COMMANDS):
        seconds = statistics.median(one[i] for one in found)
        ratio = statistics.median(one[i] / one[0] for one in found)
        print(f'| {name} | {seconds:.2f} | {ratio:.2f} |')
    print(f'\nMedians of {rounds} rounds; {machine_line()}')


if __name__ == '__main__':
    main()
