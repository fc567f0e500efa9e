"""What messages are made of: commands that they suggest, names that were meant, remarks."""
