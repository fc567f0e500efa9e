"""The exact softmax over all labels, dense and streamed in blocks: arrays in, arrays out."""
