#!/usr/bin/env python
"""Cost of configs beside a first one: ``python tools/benchmark.py BASE CONFIG``."""

from aib_mm.cli.benchmark import main

if __name__ == '__main__':
    raise SystemExit(main())
