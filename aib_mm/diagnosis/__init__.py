"""What is wrong with an environment, a config or a checkpoint, in words."""
