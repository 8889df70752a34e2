"""The demo: DigitScenes, a few small classifiers compared, and a page to look at."""
