#!/usr/bin/env python
"""Table 8: ``tools/interpretability.py --model CONFIG CHECKPOINT``; see ``--help``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.interpretability import main

if __name__ == '__main__':
    raise SystemExit(main())
