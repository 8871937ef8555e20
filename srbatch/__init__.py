"""srbatch upscales and restores whole photo archives with a deep super-resolution network."""

__version__ = "0.1.0"
