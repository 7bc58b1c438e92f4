# Sourced by the other scripts: strict mode, the repository's root as working directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "$0: $*" >&2; exit 1; }
