"""What people do with stored jobs, dead letters and schedules. In values, over the port; printing is the CLI's."""
