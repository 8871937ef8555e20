"""The output folder, and everything that makes it safe."""
