"""Recurrent cells from machine translation research."""
