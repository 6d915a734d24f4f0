"""What runs on the machine of the person who loads: copied byte for byte into every converted checkpoint."""
