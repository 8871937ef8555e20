"""``srbatch watch``: the batch in a loop over a drop folder, for months. `daemon` is where it begins."""
