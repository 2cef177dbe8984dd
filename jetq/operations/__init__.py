"""What people do with stored jobs, dead letters and schedules. All in values, over the port; the command line
prints."""
