#!/usr/bin/env python
"""Make the data: ``python tools/digit_scenes.py``; ``--help`` lists the options."""

from aib_mm.cli.digit_scenes import main

if __name__ == '__main__':
    raise SystemExit(main())
