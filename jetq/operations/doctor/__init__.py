"""The examination of a deployment: facts asked for, then judged."""
