"""Fast twins of some primitives, in one table, switched on by `with fast():`."""
