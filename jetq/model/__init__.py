"""The values that travel: what is stored, delivered, decided and shown. No I/O and no clock."""
