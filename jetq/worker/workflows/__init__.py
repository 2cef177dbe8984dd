"""Members of workflows: what a worker does before a member's code runs, and after."""
