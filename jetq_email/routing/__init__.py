"""Chooses the way of a mail: the one transport that is set up, or one of several routes by their weights, each at its
pace."""
