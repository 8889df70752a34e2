#!/usr/bin/env python
"""Table 8: ``tools/interpretability.py --model CONFIG CHECKPOINT``; see ``--help``."""

from aib_mm.cli.interpretability import main

if __name__ == '__main__':
    raise SystemExit(main())
