"""Attentions for nmt: several heads, scaled and normed scores, coverage, location, windows, monotonic alignments."""
