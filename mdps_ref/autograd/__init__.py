"""A small array library: Tensors that remember how they were made, primitives, and their hand-derived pullbacks."""
