"""The HTTP service over an open home: routes, keys, limits, batching, metrics. Started by 'trustvlm
serve'.

* app.py puts it together; gate.py is what every request goes through first and every response last.
* routes_*.py are the verbs, a file per group; schemas.py their JSON; bodies.py reads what clients
  send.
* batching.py and lanes.py: who does the work, in which order, and how much may wait.
* keyring.py, repeats.py, jobs.py, meters.py, logs.py: keys, Idempotency-Key, long work, metrics,
  logs.
"""
