"""From a run to a verified file of weights."""
