"""From an image and its posterior samples to an anomaly map, a score and the metrics."""
