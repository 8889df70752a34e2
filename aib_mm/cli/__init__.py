"""The programs behind ``tools/train.py`` and ``tools/test.py``."""
