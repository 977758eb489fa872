#!/usr/bin/env bash
# Trains on two "nodes" of this machine: network namespaces, which reach each other over a virtual
# cable and nothing else. Needs Linux, root and the command ip; leaves nothing behind.
#
#   sudo scripts/two_nodes.sh [words for fit ...]
set -euo pipefail
words=("$@")
if [ ${#words[@]} = 0 ]; then
  words=(--config quickstart --trainer.accelerator cpu --trainer.max_epochs 2
    --trainer.limit_train_batches 10 --trainer.enable_progress_bar false
    --model.network.width 4 --data.sites_per_batch 8000)
fi
folder=$(mktemp -d)
nodes=(spcnn-a spcnn-b)
addresses=(10.77.0.1 10.77.0.2)
tidy() {
  for node in "${nodes[@]}"; do ip netns del "$node" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap tidy EXIT

for node in "${nodes[@]}"; do
  ip netns add "$node"
  ip -n "$node" link set lo up
done
ip link add spcnn0 netns "${nodes[0]}" type veth peer name spcnn0 netns "${nodes[1]}"
for number in 0 1; do
  ip -n "${nodes[$number]}" addr add "${addresses[$number]}/24" dev spcnn0
  ip -n "${nodes[$number]}" link set spcnn0 up
done

# What is run on each node: torchrun knows the others, Lightning takes over what torchrun says.
on_node() {
  cd "$folder"
  GLOO_SOCKET_IFNAME=spcnn0 OMP_NUM_THREADS=1 ip netns exec "${nodes[$1]}" torchrun \
    --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint "${addresses[0]}:29400" \
    --rdzv-id spcnn --rdzv-conf is_host=$((1 - $1)) --local-addr "${addresses[$1]}" \
    -m spcnn_lightning \
    fit --trainer.num_nodes 2 --trainer.devices 1 --trainer.strategy ddp "${words[@]}"
}
on_node 1 >"$folder/second.log" 2>&1 &
second=$!
on_node 0 2>&1 | grep -v Tip || { cat "$folder/second.log"; exit 1; }
wait "$second"
