"""The services that jetq needs of its Python process: clocks, forks, threads. No module here knows of jobs."""
