#!/usr/bin/env python
"""Train and test configs × seeds: ``python tools/grid.py CONFIG ... --seeds 0 1 2``."""

from aib_mm.cli.grid import main

if __name__ == '__main__':
    raise SystemExit(main())
