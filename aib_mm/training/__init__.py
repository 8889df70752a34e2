"""What mmengine leaves out of a training: checkpoints, random state, damaged data."""
