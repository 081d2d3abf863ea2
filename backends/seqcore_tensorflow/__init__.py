"""The TensorFlow backend: loops with a written backward pass, as graphs or compiled by XLA."""
