"""Many runs, many models: grids, the demo, maps of trained models, their cost."""
