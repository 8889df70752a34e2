#!/usr/bin/env python
"""Compare models on DigitScenes: ``python tools/demo.py``; ``--help`` lists options."""

__registers_later__ = True  # what the config needs, see aib_mm/__init__.py

from aib_mm.cli.demo import main

if __name__ == '__main__':
    raise SystemExit(main())
