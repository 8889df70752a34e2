"""Maps of trained models, run through measures."""
