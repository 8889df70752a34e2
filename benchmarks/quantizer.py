"""The quantiser: a forward and a backward pass, eager and compiled, beside a copy.

``python benchmarks/quantizer.py [--rounds 10] [--threads 1] [--compile]``
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from compare import compare
from torch import Tensor

from aib_mm.quantizer import VQAnchorQuantizer

SHAPES = ((16, 1, 512, 512), (64, 1, 16, 16))
ANCHORS = (20, 50, 4096)


def step(quantizer: Callable[[Tensor], Any], scores: Tensor, gradient: Tensor) -> None:
    """Forward and backward, as in training."""
    values, vq_loss, commit_loss, *_ = quantizer(scores)
    torch.autograd.backward((values, vq_loss, commit_loss), (gradient, None, None))
    scores.grad = None


def main() -> None:
    """Print a table for a large and a small map."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--compile', action='store_true', help='needs a compiler')
    args = parser.parse_args()
    torch.manual_seed(0)
    for shape in SHAPES:
        scores, gradient = torch.rand(shape, requires_grad=True), torch.randn(shape)
        steps = {'one copy of the map': partial(torch.clone, scores.detach())}
        for count in ANCHORS:
            quantizer = VQAnchorQuantizer(count)
            steps[f'Q = {count}'] = partial(step, quantizer, scores, gradient)
            if args.compile:
                compiled = torch.compile(quantizer, dynamic=False)
                steps[f'Q = {count}, compiled'] = partial(
                    step, compiled, scores, gradient
                )
        compare('×'.join(map(str, shape)), steps, args.rounds, args.threads)


if __name__ == '__main__':
    main()
