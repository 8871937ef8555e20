"""What photographs suffer: from a clean crop to the input that the network is given."""
