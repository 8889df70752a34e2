#!/usr/bin/env python
"""Test on other domains: ``tools/cross_domain.py CONFIG CHECKPOINT --domains FILE``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.cross_domain import main

if __name__ == '__main__':
    raise SystemExit(main())
