#!/usr/bin/env python
"""See what a model looks at: ``python tools/visualize_attention.py CONFIG CHECKPOINT
IMAGE... --out FOLDER``; see ``--help``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.visualize_attention import main

if __name__ == '__main__':
    raise SystemExit(main())
