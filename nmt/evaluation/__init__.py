"""Evaluation: translations against references."""
