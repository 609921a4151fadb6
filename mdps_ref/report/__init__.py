"""The report of a run: its figures, its tables, and the page that holds them."""
