#!/usr/bin/env bash
# A pod without Kubernetes: what deploy/kubernetes/ describes, by namespaces of this machine's own.
#
#   the script ── a mount namespace of its own: the "pod", with a tmpfs for the models
#   ├─ sidecar    PID and mount namespaces; a user of its own, no capabilities (way open), or root (way mount)
#   └─ engine     PID and mount namespaces; another user, no capabilities, no_new_privs; sees the models read-only
set -euo pipefail

usage() {
    cat <<'USAGE'
Runs a program as the engine of a pod, beside a sidecar that opens its models.

Usage: pod-without-kubernetes.sh [OPTIONS] --model NAME=SEALED [--model …] [-- ENGINE…]

  --model NAME=SEALED    a model and its sealed folder; the first one is the engine's
  --config FILE          guest.toml: root, broker, evidence  [/etc/portcullis/guest.toml]
  --evidence SOURCE      auto, configfs, device or agent:PATH, in place of the configuration's
  --way WAY              open: to memory; mount: by FUSE, decrypted as it is read  [open]
  --size SIZE            how much memory the models may take, way open  [half of the machine's]
  --wait SECONDS         how long the models may take to open  [600]
  --probes ADDRESS       where the sidecar answers probes  [127.0.0.1:9901]
  --help

ENGINE finds its model's path in $MODEL, and all of them under $MODELS. Without ENGINE, the files are listed and read once.
The exit code is the engine's; 1 where the models were not open in time.

Needs root, portcullis-guest on the path, and util-linux (unshare, setpriv, mount). The evidence must be within reach: a user 10001 runs the
sidecar (way open), so a device that is root's is given by `portcullis-guest evidence-agent --mode 0666`, in a folder that keeps others out.
USAGE
}

config=/etc/portcullis/guest.toml way=open size=50% wait=600 probes=127.0.0.1:9901 evidence=() models=() engine=()
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage; exit 0 ;;
        --) shift; engine=("$@"); break ;;
    esac
    [ $# -ge 2 ] || { echo "error: $1 is unknown or needs a value (see --help)" >&2; exit 2; }
    case $1 in
        --config) config=$2 ;;
        --evidence) evidence=(--evidence "$2") ;;
        --way) way=$2 ;;
        --size) size=$2 ;;
        --wait) wait=$2 ;;
        --probes) probes=$2 ;;
        --model) models+=("$2") ;;
        *) echo "error: unknown option $1 (see --help)" >&2; exit 2 ;;
    esac
    shift 2
done
[ ${#models[@]} -gt 0 ] || { echo "error: no --model (see --help)" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "skipped: this needs root, for namespaces and users" >&2; exit 2; }
for tool in portcullis-guest unshare setpriv; do
    command -v "$tool" >/dev/null || { echo "error: no $tool on the path" >&2; exit 2; }
done

# In a mount namespace of its own, whose mounts nobody else sees and which end with it.
if [ -z "${PORTCULLIS_POD:-}" ]; then
    probe=$(unshare --mount --pid --fork --mount-proc true 2>&1) || { echo "skipped: no namespaces here: $probe" >&2; exit 2; }
    pod=$(mktemp -d "${TMPDIR:-/tmp}/portcullis-pod.XXXXXX")
    code=0
    arguments=(--config "$config" --way "$way" --size "$size" --wait "$wait" --probes "$probes" "${evidence[@]}")
    for model in "${models[@]}"; do arguments+=(--model "$model"); done
    PORTCULLIS_POD=$pod unshare --mount --propagation private bash "$0" "${arguments[@]}" -- "${engine[@]}" || code=$?
    # What is left is an empty folder: everything else was mounted on it.
    rmdir "$pod"
    exit "$code"
fi

pod=$PORTCULLIS_POD
unset PORTCULLIS_POD
chmod 755 "$pod"
[ "$way" = mount ] && size=1M
# The emptyDir of medium Memory. Shared: what the sidecar mounts in it, the engine shall see.
mount -t tmpfs -o "size=$size,mode=0755,nosuid,nodev" portcullis-pod "$pod"
mount --make-shared "$pod"
mkdir "$pod/models" "$pod/etc"
cp "$config" "$pod/etc/guest.toml"
{
    printf 'models = "%s/models"\nway = "%s"\nprobes = "%s"\n' "$pod" "$way" "$probes"
    for model in "${models[@]}"; do
        printf '\n[[model]]\nname = "%s"\nsealed = "%s"\n' "${model%%=*}" "$(realpath "${model#*=}")"
    done
} > "$pod/etc/sidecar.toml"
chmod -R a+rX "$pod/etc"

confined=(setpriv --no-new-privs --bounding-set=-all --inh-caps=-all)
sidecar_user=()
if [ "$way" = open ]; then
    chown 10001:10001 "$pod/models"
    sidecar_user=("${confined[@]}" --reuid 10001 --regid 10001 --clear-groups)
fi
engine_user=("${confined[@]}" --reuid 10002 --regid 10002 --clear-groups)

# The process that a namespace begins with: the only child of its unshare.
first_of() { cat "/proc/$1/task/$1/children" 2>/dev/null || true; }

sidecar=
finish() {
    # As a kubelet does: asked to end, waited for. It puts the models away.
    if [ -n "$sidecar" ]; then
        for child in $(first_of "$sidecar"); do kill -TERM "$child" 2>/dev/null || true; done
        wait "$sidecar" || true
        sidecar=
    fi
    umount -R "$pod" || umount -R --lazy "$pod" || true
}
trap finish EXIT
trap 'exit 130' INT TERM

unshare --mount --propagation unchanged --pid --fork --kill-child --mount-proc -- "${sidecar_user[@]}" \
    portcullis-guest sidecar --config "$pod/etc/guest.toml" --pod "$pod/etc/sidecar.toml" "${evidence[@]}" &
sidecar=$!

# What a kubelet's startup probe asks: the status of a path.
status() {
    local reply
    { exec 3<>"/dev/tcp/${probes%:*}/${probes##*:}"; } 2>/dev/null || { echo none; return; }
    printf 'GET %s HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n' "$1" >&3
    read -r -t 5 _ reply _ <&3 || reply=none
    cat <&3 >/dev/null
    exec 3>&-
    echo "$reply"
}

while sleep 0.2; do
    started=$(status /startupz)
    # Whoever else may answer on that port: it counts while the sidecar lives.
    if ! kill -0 "$sidecar" 2>/dev/null; then echo "error: the sidecar has ended" >&2; sidecar=; exit 1; fi
    if [ "$started" = 200 ]; then break; fi
    if [ "$SECONDS" -ge "$wait" ]; then echo "error: the models were not open within $wait s" >&2; exit 1; fi
done
echo "startup $(status /startupz), ready $(status /readyz), live $(status /livez)" >&2

first=${models[0]%%=*}
export MODELS=$pod/models MODEL=$pod/models/$first@current
if [ ${#engine[@]} -eq 0 ]; then
    # shellcheck disable=SC2016
    engine=(sh -c 'cd "$MODEL/" && find . -type f | sort | xargs -d "\n" ls -l && find . -type f -exec cat {} + | wc -c')
fi
# HostToContainer: what is mounted later shows here too. Read-only for all that is under it, where mount(8) knows how.
# shellcheck disable=SC2016
unshare --mount --propagation slave --pid --fork --kill-child --mount-proc -- bash -c '
    mount -o remount,bind,ro "$1" && shift && exec "$@"' engine "$pod" "${engine_user[@]}" "${engine[@]}"
