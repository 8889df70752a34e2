#!/usr/bin/env python
"""Store a trained model's weights as the package ships them: ``aib_mm/weights``.

Weights and the names of the classes, nothing of the training. Any loader that copies
weights into a model takes them, as copying casts.
"""

import argparse

import torch

INT16 = torch.iinfo(torch.int16)


def stored(name: str, value: torch.Tensor, float8: list[str]) -> torch.Tensor:
    """The smallest type that keeps a weight well enough: tested, not proved."""
    if not value.is_floating_point():
        fits = INT16.min <= value.min() and value.max() <= INT16.max
        return value.to(torch.int16) if fits else value
    if value.dim() > 1 and name.startswith(tuple(float8)):
        return value.to(torch.float8_e4m3fn)
    small = value.half()
    return small if bool(small.isfinite().all()) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='a checkpoint of mmengine')
    parser.add_argument('out', help='file to write')
    text = 'beginnings of the names of layers whose weights get 8 bits, not 16'
    parser.add_argument('--float8', nargs='+', default=[], metavar='NAME', help=text)
    args = parser.parse_args()
    checkpoint = torch.load(args.checkpoint, map_location='cpu', weights_only=False)
    weights = {
        name: stored(name, value, args.float8).clone()
        for name, value in checkpoint['state_dict'].items()
    }
    known = checkpoint['meta']['dataset_meta']
    meta = {key: known[key] for key in ('classes', 'palette') if key in known}
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=meta)), args.out)


if __name__ == '__main__':
    main()
