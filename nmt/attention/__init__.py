"""Attention: the contract and the built-in scores."""
