"""``tools/benchmark.py --suite``: what the parts of this package cost, against aims."""

from aib_mm.cli.suite.run import GROUPS, suite

__all__ = ['GROUPS', 'suite']
