#!/usr/bin/env python
"""Compare models on DigitScenes: ``python tools/demo.py``; ``--help`` lists options."""

from aib_mm.demo.main import main

if __name__ == '__main__':
    raise SystemExit(main())
