"""One connection to a NATS server that outlives servers and networks. This package knows nothing of jobs."""
