"""Reading what users have on disk: folders of images and lists of names. Every verb reads them by
these rules."""
