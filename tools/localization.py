#!/usr/bin/env python
"""Where maps lie: ``tools/localization.py --model CONFIG CHECKPOINT``; ``--help``."""

from aib_mm.cli.localization import main

if __name__ == '__main__':
    raise SystemExit(main())
