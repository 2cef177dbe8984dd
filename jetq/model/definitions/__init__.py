"""What an application declares of its tasks, queues and schedules, checked where it is written."""
