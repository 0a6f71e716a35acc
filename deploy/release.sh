#!/usr/bin/env bash
# What a release comes with; everything from the hashed locks.
#   release.sh sbom      dist/sbom.json: what the image runs, in CycloneDX 1.6
#   release.sh licenses  docs/licenses.md; fails on a licence that nobody has accepted yet
#   release.sh wheel     dist/*.whl, built twice in different places: the same bytes, or it fails
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
# the time of the last commit, in place of today's
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

# permissive, and one that asks for changes of its own files alone (orjson, which is used as it is)
accepted="Apache Software License;Apache-2.0;Apache-2.0 AND BSD-2-Clause;Apache-2.0 AND MIT;Apache-2.0 OR BSD-2-Clause\
;BSD-3-Clause;MIT;MIT License;MIT OR Apache-2.0;MPL-2.0 AND (Apache-2.0 OR MIT);PSF-2.0;Python Software Foundation License"

sbom() {
  uv venv --quiet --clear build/runtime
  uv pip install --quiet --python build/runtime/bin/python --require-hashes -r requirements.txt
  mkdir -p dist
  cyclonedx-py environment build/runtime/bin/python --pyproject pyproject.toml --output-reproducible \
    --sv 1.6 --of JSON -o dist/sbom.json
  echo dist/sbom.json
}

licenses() {
  local names page=${1:-docs/licenses.md}
  mapfile -t names < <(sed -n 's/^\([a-z0-9._-]*\)==.*/\1/p' requirements.txt)
  {
    printf '%s\n\n' '# Licences' "Of all that runs in the image besides Python itself; written by \`make licenses\`."
    pip-licenses --from=mixed --order=name --format=markdown --allow-only="$accepted" --packages "${names[@]}"
  } > "$page.new"
  mv "$page.new" "$page"
}

wheel() {
  rm -rf build/first build/second dist/*.whl
  for place in first second; do
    mkdir -p "build/$place"
    git ls-files -z --cached --others --exclude-standard |
      tar --null --files-from=- --create | tar --extract --touch -C "build/$place"
    (cd "build/$place" && uv build --quiet --wheel --no-build-isolation --out-dir out)
  done
  mkdir -p dist
  cmp build/first/out/*.whl build/second/out/*.whl
  cp build/first/out/*.whl dist/
  sha256sum dist/*.whl
}

case "${1:-}" in
  sbom | licenses | wheel) "$@" ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
