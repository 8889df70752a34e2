#!/usr/bin/env python
"""Make the data: ``python tools/digit_scenes.py``; ``--help`` lists the options."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.digit_scenes import main

if __name__ == '__main__':
    raise SystemExit(main())
