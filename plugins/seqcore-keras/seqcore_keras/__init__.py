"""Keras 3's recurrent layers as engines under test, on each framework that Keras runs on."""
