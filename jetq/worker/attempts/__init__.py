"""One run of one job, from its delivery to the outcome that is stored and acknowledged."""
