"""Makes one attempt to send a mail: gathers attachments, and leaves out recipients that have a campaign's mail
already."""
