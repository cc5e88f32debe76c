"""How good made images are: features, and scores of them on torch-fidelity."""
