"""What a layer means: layers, initializers, the output contract. NumPy for initial weights only."""
