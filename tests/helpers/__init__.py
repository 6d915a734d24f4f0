"""What several test files and commands share."""
