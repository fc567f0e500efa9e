"""Pure arithmetic: arrays in, arrays out; no files, no SQL, no FAISS."""
