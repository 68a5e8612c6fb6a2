"""Cells whose time loop is element-wise and linear: a scan in training, a step in search."""
