"""The places that mails are handed to: a server, a provider, a file, the terminal, a list."""
