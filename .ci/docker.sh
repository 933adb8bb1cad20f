# Docker for the gate, sourced by .ci/run: an engine where none answers, AWS's images or their stand-ins, and nothing of it left.
#
#   docker_start     an engine that answers: the one that runs, or one of our own, with its data in a folder of its own
#   docker_remove    end ours with all its data; from one that was there before, remove the stand-ins if they were not there
#
# Whoever sources it sets `trap docker_remove EXIT` first.

docker_data=""      # the folder of our own engine's data; empty while there is no such engine
docker_process=""
docker_keep=""      # the stand-ins that an engine had before
docker_firewall=""  # the packet filter as it was
docker_forwarding=""

docker_start() {
  if docker info >/dev/null 2>&1; then
    echo "Docker's engine runs already"
    docker_keep=$(docker image ls --quiet --filter label=lambda-torch.stand-in)
    return
  fi
  # An engine changes the packet filter for its networks, and does not change it back.
  docker_firewall=$(iptables-save --table nat && iptables-save --table filter)
  docker_forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  docker_data=$(mktemp --directory /var/tmp/lambda-torch-docker.XXXXXX)
  # A session of its own: Ctrl-C reaches only the gate, which ends the engine when its containers have gone.
  setsid setpriv --pdeathsig TERM dockerd --data-root "$docker_data/data" >"$docker_data/log" 2>&1 &
  docker_process=$!
  for _ in {1..120}; do
    if docker info >/dev/null 2>&1; then
      docker info --format 'Started Docker {{.ServerVersion}} ({{.Driver}}, control groups v{{.CgroupVersion}})'
      return
    fi
    kill -0 "$docker_process" 2>/dev/null || break
    sleep 0.5
  done
  echo "Docker's engine does not start; its last lines:" >&2
  tail --lines=15 "$docker_data/log" >&2
  echo "Next: start one by hand, or run .ci/run without LAMBDA_TORCH_CI_DOCKER, which leaves the container tests out." >&2
  return 1
}

docker_remove() {
  if [[ -z $docker_process ]]; then
    if [[ -z $docker_keep && -e .venv/.ready ]] && docker info >/dev/null 2>&1; then make --silent images-remove || true; fi
    return
  fi
  docker ps --quiet --all | xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
  docker network ls --quiet --filter type=custom | xargs --no-run-if-empty docker network rm >/dev/null || true
  kill "$docker_process" 2>/dev/null || true
  wait "$docker_process" || true
  docker_process=""
  rm --recursive --force "$docker_data"
  ip link delete docker0 2>/dev/null || true
  iptables-restore <<<"$docker_firewall"
  echo "$docker_forwarding" >/proc/sys/net/ipv4/ip_forward
  echo "Ended Docker's engine, and removed what it made"
}
