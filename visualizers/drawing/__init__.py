"""A trace as one declarative list of marks, and the colours and curves; `draw` is the package's own function."""
