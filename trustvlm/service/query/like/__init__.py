"""Search by what is stored: support images and labels in place of query vectors."""
