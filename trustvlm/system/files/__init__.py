"""Files and folders of this machine: durable, complete or not at all, and where they are."""
