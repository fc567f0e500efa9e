"""From image files to the pixels an encoder takes: formats, deep pixels, orientation, and the child
process that decodes."""
