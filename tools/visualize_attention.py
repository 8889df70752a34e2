#!/usr/bin/env python
"""See what a model looks at: ``python tools/visualize_attention.py CONFIG CHECKPOINT
IMAGE... --out FOLDER``; see ``--help``."""

from aib_mm.cli.visualize_attention import main

if __name__ == '__main__':
    raise SystemExit(main())
