"""When, by whom and by which kind of change the revisions of a space were made, and which rows
changed since."""
