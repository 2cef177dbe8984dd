"""The examination of a deployment: its facts are asked for, and then judged."""
