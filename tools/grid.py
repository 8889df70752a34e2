#!/usr/bin/env python
"""Train and test configs × seeds: ``python tools/grid.py CONFIG ... --seeds 0 1 2``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.grid import main

if __name__ == '__main__':
    raise SystemExit(main())
