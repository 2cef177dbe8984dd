"""Feedback about mails: events of providers, reports by mail, and messages of SNS."""
