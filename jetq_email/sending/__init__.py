"""One attempt of a mail, with what it needs: attachments, and who has the mail of a campaign already."""
