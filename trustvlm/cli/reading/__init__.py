"""What commands read: files, folders, arrays and lists of labelled images."""
