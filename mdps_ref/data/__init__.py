"""Images in and out: folders of real ones, and synthetic sets drawn in NumPy."""
