"""The classification head of the bottleneck."""
