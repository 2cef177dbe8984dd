"""By which way a mail goes: the one transport that is set up, or several by their weights, each at its pace."""
