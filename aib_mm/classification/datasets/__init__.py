"""Data sets that mmpretrain does not have."""
