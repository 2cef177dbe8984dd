"""Values as bytes and headers, and back: arguments by signature, metadata, failures, sealed payloads."""
