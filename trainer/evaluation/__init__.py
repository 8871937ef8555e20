"""Measured against published protocols, and looked at."""
