"""What is done with stored workflows: creating and reading them, storing the jobs of their members, ending them."""
