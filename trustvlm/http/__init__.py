"""The HTTP service over an open home, started by 'trustvlm serve'.

app.py puts it together. guard/ is what every request passes, wire/ reads and writes its JSON, work/
holds the threads that do the work, routes/ has a file per group of verbs, static/ the page.
"""
