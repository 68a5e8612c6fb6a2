"""Layer-normalised LSTM and GRU, with recurrent dropout, variational dropout and zoneout."""
