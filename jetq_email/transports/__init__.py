"""Where mails go: a server, a provider, a file, the terminal, a list."""
