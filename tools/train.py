#!/usr/bin/env python
"""Train a model: ``python tools/train.py CONFIG``; ``--help`` lists the options."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.train import main

if __name__ == '__main__':
    raise SystemExit(main())
