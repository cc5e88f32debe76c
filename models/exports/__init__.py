"""Trained networks as programs that run without Atelier, and the card that goes with a model."""
