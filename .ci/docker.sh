# Docker for the gate, sourced by .ci/run: an engine where none answers, and nothing of it left. No step waits for ever.
#
#   docker_install   Debian's Docker, unless there is one
#   docker_start     an engine that answers: the one that runs, or one of our own, with its data in a folder of its own
#   docker_remove    end ours with all its data; from one that was there before, remove the stand-ins if they were not there
#
# Whoever sources it sets `trap docker_remove EXIT` first. Each function says what went wrong, and returns 1 then: bash does not
# end a function at the first error where its caller looks at its status.

docker_data=""      # the folder of our own engine's data; empty while there is no such engine
docker_process=""
docker_used=""      # yes, once an engine answered
docker_keep=""      # the stand-ins that an engine had before
docker_firewall=""  # the packet filter as it was
docker_forwarding=""
docker_bridge=""    # yes, if its network was there before

docker_answers() {
  timeout 20 docker info >/dev/null 2>&1
}

docker_install() {
  docker_answers && return
  # iproute2 and iptables take back what the engine does to the network.
  local packages=(iproute2 iptables)
  # Not where there is an engine already, whatever package it is from.
  command -v dockerd >/dev/null || packages+=(docker.io)
  install_packages "${packages[@]}" || return 1
  # From Debian 13 on the command is a package of its own.
  command -v docker >/dev/null || install_packages docker-cli
}

docker_start() {
  if docker_answers; then
    echo "Docker's engine runs already"
    docker_used=yes
    docker_keep=$(docker image ls --quiet --filter label=lambda-torch.stand-in)
    return
  fi
  # An engine changes the packet filter for its networks, and does not change it back.
  docker_firewall=$(iptables-save --table nat && iptables-save --table filter) || docker_firewall=""
  docker_forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  [[ ! -e /sys/class/net/docker0 ]] || docker_bridge=yes
  docker_data=$(mktemp --directory /var/tmp/lambda-torch-docker.XXXXXX) || return 1
  # A session of its own: Ctrl-C reaches only the gate, which ends the engine when its containers have gone.
  setsid setpriv --pdeathsig TERM dockerd --data-root "$docker_data/data" >"$docker_data/log" 2>&1 &
  docker_process=$!
  local end=$((SECONDS + 60))
  while ((SECONDS < end)) && kill -0 "$docker_process" 2>/dev/null; do
    if docker_answers; then
      docker_used=yes
      docker info --format 'Started Docker {{.ServerVersion}} ({{.Driver}}, control groups v{{.CgroupVersion}})'
      return
    fi
    sleep 0.5
  done
  echo "Docker's engine does not start here; its last lines:"
  tail --lines=15 "$docker_data/log"
  return 1
}

docker_remove() {
  if [[ -z $docker_process ]]; then
    if [[ -n $docker_used && -z $docker_keep && -e .venv/.ready ]]; then timeout 120 make --silent images-remove || true; fi
    docker_used=""
    return 0
  fi
  if [[ -n $docker_used ]]; then
    timeout 60 docker ps --quiet --all | timeout 60 xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
    timeout 60 docker network ls --quiet --filter type=custom | timeout 60 xargs --no-run-if-empty docker network rm >/dev/null || true
  fi
  kill "$docker_process" 2>/dev/null || true
  local end=$((SECONDS + 30))
  while ((SECONDS < end)) && kill -0 "$docker_process" 2>/dev/null; do sleep 0.2; done
  kill -KILL "$docker_process" 2>/dev/null || true # its containerd ends with it
  wait "$docker_process" 2>/dev/null || true
  docker_process=""
  local mounted
  for mounted in $(awk -v data="$docker_data/" 'index($2, data) == 1 { print $2 }' /proc/self/mounts | sort --reverse); do
    umount --lazy "$mounted" || true
  done
  rm --recursive --force "$docker_data" || true
  [[ -n $docker_bridge ]] || ip link delete docker0 2>/dev/null || true
  [[ -z $docker_firewall ]] || iptables-restore <<<"$docker_firewall" || true
  echo "$docker_forwarding" >/proc/sys/net/ipv4/ip_forward || true
  [[ -z $docker_used ]] || echo "Ended Docker's engine, and removed what it made"
  docker_used=""
  return 0
}
