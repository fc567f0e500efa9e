"""A Ray cluster of two nodes on this machine: prints its address, and ends when stdin closes."""

from __future__ import annotations

import os
import sys

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "240",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback is the address of the machine
}

from ray.cluster_utils import Cluster

NODE = {
    "num_cpus": 1,
    "object_store_memory": 150 * 2**20,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
}

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(wait=False, **NODE)
    cluster.wait_for_nodes(timeout=240)  # a busy machine starts it slowly
    print(cluster.address, flush=True)  # noqa: T201
    sys.stdin.read()
    cluster.shutdown()
