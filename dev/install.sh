#!/usr/bin/env bash
# The chart into the local cluster. The images keep one tag while one works on them, so their IDs go into the pods'
# annotations: a new image rolls the pods, an old one leaves them alone. IMAGE_PREFIX: the registry of a cluster of yours.
set -euo pipefail
version=$1
id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null || echo unknown; }
helm upgrade --install kubetune charts/kubetune --namespace kubetune --create-namespace \
  --values dev/values.yaml \
  --set "image.repository=${IMAGE_PREFIX:-}kubetune/kubetune" \
  --set "workers.image.repository=${IMAGE_PREFIX:-}kubetune/trial" \
  --set-string "podAnnotations.kubetune\.dev/image=$(id "kubetune/kubetune:$version")" \
  --wait --timeout 5m
