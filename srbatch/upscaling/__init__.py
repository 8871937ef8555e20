"""From pixels to more pixels: tiles, batches and devices, and what runs the network on them."""
