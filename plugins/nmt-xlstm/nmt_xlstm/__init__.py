"""sLSTM and mLSTM: the recurrences of the extended long short-term memory (Beck et al. 2024)."""

START = -1e30
"""Where a stabiliser starts: so low that whatever comes first is larger, and finite in every type that trains."""
