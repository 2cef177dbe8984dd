"""The parts of JetStream: streams, consumers, subjects, publishes, pulls and acks."""
