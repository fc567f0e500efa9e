"""Export and import of label spaces."""
