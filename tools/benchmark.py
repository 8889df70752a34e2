#!/usr/bin/env python
"""Time and memory of configs beside a first: ``python tools/benchmark.py BASE CONFIG``."""

from aib_mm.cli.benchmark import main

if __name__ == '__main__':
    raise SystemExit(main())
