"""The command lines of ``tools/`` and of ``python -m aib_mm``."""
