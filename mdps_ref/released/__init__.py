"""What belongs to the authors' released code and not to the paper: its rules, chain, settings, and names of arrays."""
