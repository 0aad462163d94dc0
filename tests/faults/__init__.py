"""What breaks in the middle: killed processes, a record that can't be written, used-up descriptors."""
