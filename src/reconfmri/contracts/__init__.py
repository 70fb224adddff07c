"""What the parts of the package agree on: facts that several of them need, each in one place."""
