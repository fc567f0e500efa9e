"""Image files as they come: parts of a form, or base64 in JSON."""
