#!/usr/bin/env python
"""Test a model: ``python tools/test.py CONFIG CHECKPOINT``; see ``--help``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.test import main

if __name__ == '__main__':
    raise SystemExit(main())
