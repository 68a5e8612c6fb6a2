"""Search: from an encoded source to hypotheses, for any decoder."""
