"""What the HTTP server keeps in a home: keys, jobs, repeated requests, workers."""
