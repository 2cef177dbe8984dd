"""What comes back of mails: events of providers, reports by mail, and messages of SNS."""
