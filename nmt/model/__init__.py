"""Components put together: encoders, decoders, the sequence-to-sequence model."""
