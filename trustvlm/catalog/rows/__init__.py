"""The rows of labels, support images, spaces, observations and calibrations, and the SQL that reads
and writes them."""
