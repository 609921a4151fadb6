"""Studies of the method: many settings on the same images, compared by the same metrics."""
