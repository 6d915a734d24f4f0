"""What was converted: read, inspected and brought up to date."""
