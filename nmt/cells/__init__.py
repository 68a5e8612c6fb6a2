"""The recurrence: the contract of a cell, the built-in cells, engines and layers."""
