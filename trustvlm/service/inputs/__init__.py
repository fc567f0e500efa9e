"""What callers pass in, checked and encoded: images, texts, names and labelled images."""
