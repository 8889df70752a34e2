#!/usr/bin/env python
"""Train a model: ``python tools/train.py CONFIG``; ``--help`` lists the options."""

from aib_mm.cli.train import main

if __name__ == '__main__':
    raise SystemExit(main())
