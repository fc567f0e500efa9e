"""The rows that the HTTP server keeps: API keys, jobs and answers to repeated requests."""
