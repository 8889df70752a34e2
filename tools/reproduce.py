#!/usr/bin/env python
"""A table of the paper beside the paper's own: ``python tools/reproduce.py 5``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.reproduce import main

if __name__ == '__main__':
    raise SystemExit(main())
