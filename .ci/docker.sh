# shellcheck shell=bash
# Docker for the gate, sourced by .ci/run: it starts an engine where none answers, and removes it. Every step has a time limit.
#
#   docker_install   Debian's Docker, unless there is one
#   docker_start     use the engine that runs, or start one with its data in a separate folder
#   docker_remove    end the engine that docker_start started, with all its data; remove the stand-ins from one that ran before,
#                    if it did not have them
#
# A script that sources this file first sets `trap docker_remove EXIT`. Each function prints what went wrong and then returns 1,
# because bash does not end a function at the first error if the caller checks the status.

docker_data=""      # the data folder of the engine that we started; empty if we started none
docker_process=""
docker_used=""      # yes, once an engine answered
docker_keep=""      # the stand-ins that the engine had before
docker_firewall=""  # the packet filter as it was
docker_forwarding=""
docker_bridge=""    # yes, if its network existed before

docker_answers() {
  timeout 20 docker info >/dev/null 2>&1
}

docker_install() {
  docker_answers && return
  # iproute2 and iptables undo what the engine does to the network.
  local packages=(iproute2 iptables)
  # Not if an engine is installed already, from any package.
  command -v dockerd >/dev/null || packages+=(docker.io)
  install_packages "${packages[@]}" || return 1
  # From Debian 13 on, the command is in a separate package.
  command -v docker >/dev/null || install_packages docker-cli
}

docker_start() {
  if docker_answers; then
    echo "Docker's engine is already running"
    docker_used=yes
    docker_keep=$(docker image ls --quiet --filter label=lambda-torch.stand-in)
    return
  fi
  # An engine changes the packet filter for its networks, and does not restore it.
  docker_firewall=$(iptables-save --table nat && iptables-save --table filter) || docker_firewall=""
  docker_forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  [[ ! -e /sys/class/net/docker0 ]] || docker_bridge=yes
  docker_data=$(mktemp --directory /var/tmp/lambda-torch-docker.XXXXXX) || return 1
  # In a separate session Ctrl-C reaches only the gate. The gate ends the engine after the containers are gone.
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
  echo "Docker's engine does not start here. Its last lines:"
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
  awk -v data="$docker_data/" 'index($2, data) == 1 { print $2 }' /proc/self/mounts | sort --reverse |
    while read -r mounted; do umount --lazy "$mounted" || true; done
  rm --recursive --force "$docker_data" || true
  [[ -n $docker_bridge ]] || ip link delete docker0 2>/dev/null || true
  [[ -z $docker_firewall ]] || iptables-restore <<<"$docker_firewall" || true
  echo "$docker_forwarding" >/proc/sys/net/ipv4/ip_forward || true
  [[ -z $docker_used ]] || echo "Ended Docker's engine, and removed what it made"
  docker_used=""
  return 0
}
