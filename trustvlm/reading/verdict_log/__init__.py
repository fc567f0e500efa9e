"""The verdict log as a Parquet file, of a home and of a service elsewhere alike."""
