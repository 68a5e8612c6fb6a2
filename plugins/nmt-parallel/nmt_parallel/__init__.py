"""Cells whose matrix products read the input alone, and the scans that run them along time."""
