"""Figures side by side with peers, in one run: ratios of medians of interleaved repetitions."""
