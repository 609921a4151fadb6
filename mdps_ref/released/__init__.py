"""Everything that belongs to the authors' released code and not to the paper: its rules, settings, chain, and names of arrays."""
