"""A Ray cluster of two nodes, one core each, into which nobody is let without the token of the environment. It prints
its address, and obeys lines: "kill" a node, "add" one, "add a GPU"; at the end of its input all ends."""

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "num_gpus": 0, "node_ip_address": "127.0.0.2", "object_store_memory": 200 * 2**20}

cluster = Cluster(initialize_head=True, head_node_args=NODE)
node = cluster.add_node(**NODE)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "kill\n":
        cluster.remove_node(node, allow_graceful=False)
    else:
        node = cluster.add_node(**NODE | {"num_gpus": int("GPU" in line)})
    print(line, end="", flush=True)
cluster.shutdown()
