"""What is read out of the regional signals of a run: activation and connectivity."""
