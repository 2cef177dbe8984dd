"""One connection to a NATS server that outlives servers and networks. Knows nothing of jobs."""
