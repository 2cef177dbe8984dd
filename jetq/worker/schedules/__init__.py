"""A worker's part in schedules and scheduled jobs: ticks become jobs, and defined schedules are kept up."""
