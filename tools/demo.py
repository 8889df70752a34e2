#!/usr/bin/env python
"""Compare models on DigitScenes: ``python tools/demo.py``; ``--help`` lists options."""

from aib_mm.experiments.demo.main import main

if __name__ == '__main__':
    raise SystemExit(main())
