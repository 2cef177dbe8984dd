"""The values that jetq stores, delivers, decides on and shows. The modules here do no I/O and read no clock."""
