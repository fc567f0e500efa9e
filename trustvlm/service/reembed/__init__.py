"""Replace the encoders of a label space: embed its originals again, beside it, and change over."""
