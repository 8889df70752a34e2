#!/usr/bin/env python
"""Where maps lie: ``tools/localization.py --model CONFIG CHECKPOINT``; ``--help``."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.localization import main

if __name__ == '__main__':
    raise SystemExit(main())
