"""What jetq needs of the Python process it runs in: clocks, forks, threads. Knows nothing of jobs."""
