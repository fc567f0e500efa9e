"""The offline demo: its images, its two small models, the script that trains them, and the run.
Importing it is cheap."""
