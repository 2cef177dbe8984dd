"""A worker's part in what is stored for later: ticks become jobs, defined schedules are kept up."""
