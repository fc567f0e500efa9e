"""Images with labels as people keep them: tables of paths, tables with image files in them, data
sets of other libraries, tar shards."""
