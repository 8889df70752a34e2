#!/usr/bin/env python
"""Cost of configs beside a first one: ``python tools/benchmark.py BASE CONFIG``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.benchmark import main

if __name__ == '__main__':
    raise SystemExit(main())
