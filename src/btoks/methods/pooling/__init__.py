"""Pooling: from the states of the last layer to one embedding."""
