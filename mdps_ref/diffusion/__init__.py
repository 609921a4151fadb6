"""The forward process, its schedule, and single steps back."""
