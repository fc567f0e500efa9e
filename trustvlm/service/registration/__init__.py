"""Create spaces; register, change and remove labels and support images."""
