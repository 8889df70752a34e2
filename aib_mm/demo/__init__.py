"""The demo: DigitScenes, a few small classifiers side by side, and a page to look at."""
