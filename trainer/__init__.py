"""Train the network that srbatch runs, from photographs."""
