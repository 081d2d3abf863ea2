"""Each cell's equations, and the sequence forward and backward, written once over `Ops`.

The weights, the input and the states arrive in the dtype in which the cell computes (float32 for
the half types); time comes first, `(time, batch, features)`, so that one step is one slice.
"""
