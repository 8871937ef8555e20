"""Which photos there are, and where their outputs go."""
