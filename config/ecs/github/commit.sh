#!/bin/sh
# commit.sh - brings setLatestStableOnce: false, which release.sh wrote, back into the repository.
#
# Owns: that commit and nothing else; other changes of the file are a person's. A push with the workflow's own token
# starts no workflow, so this does not run in circles. It must never force. Next: release.sh.
set -u

file=${PROPERTIES:-app.properties.json}
branch=${GITHUB_REF_NAME:-main}

# Someone may have pushed meanwhile: the change is made again on top of theirs, a few times.
tries=5

if git diff --quiet -- "$file"; then
    echo "commit: $file is as it was" >&2
    exit 0
fi
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
while :; do
    git commit --quiet --message "setLatestStableOnce: false, done" -- "$file" || break
    git push --quiet origin "HEAD:$branch" && exit 0
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || break
    # Theirs as it is, and the flag again: a merge stumbles over the weights, which are the lines beside it.
    git fetch --quiet origin "$branch" || break
    git reset --quiet --hard FETCH_HEAD || break
    changed=$(sed 's/\("setLatestStableOnce"[[:space:]]*:[[:space:]]*\)true/\1false/' "$file") || break
    printf '%s\n' "$changed" >"$file"
    if git diff --quiet -- "$file"; then
        echo "commit: $file has it already" >&2
        exit 0
    fi
done
echo "commit: setLatestStableOnce: false could not be pushed to $branch" >&2
echo "  cure: set it to false by hand before the next release, else that one promotes the canary again" >&2
exit 1
