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
git commit --quiet --message "setLatestStableOnce: false, done" -- "$file" || exit 1
while [ "$tries" -gt 0 ]; do
    git push --quiet origin "HEAD:$branch" && exit 0
    tries=$((tries - 1))
    git pull --quiet --rebase origin "$branch" || break
done
echo "commit: setLatestStableOnce: false could not be pushed to $branch" >&2
echo "  cure: set it to false by hand before the next release, else that one promotes the canary again" >&2
exit 1
