"""JetStream's own words: streams, consumers, subjects, publishes, pulls and acks."""
