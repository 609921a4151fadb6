"""The network as functions over a flat dictionary of arrays, and the rules that train it."""
