#!/bin/sh
# Stands in for aws, curl, git and weir: writes down how it was called and plays the answer that the test wrote.
#
# Owns the two folders beside it: calls/NNN (the name and the arguments of a call, each ended by NUL) and answers/.
# An answer is named after the program and its subcommand (aws-ecs-run-task, curl, weir-get); `.2` behind it makes it
# the answer to the second such call. `.err` beside it goes to stderr, `.code` is the exit code (254 with `.err`).
# It must never reach a network. Next: fake_aws.rs.
here=$FAKE
name=${0##*/}
case $name in
aws) kind=aws-$1-$2 ;;
curl) kind=curl ;;
*) kind=$name-$1 ;;
esac
number=$(cat "$here/number" 2>/dev/null || echo 0)
number=$((number + 1))
echo "$number" >"$here/number"
# Whole at once, because a test may look while a script runs.
printf '%s\0' "$name" "$@" >"$here/call"
mv "$here/call" "$here/calls/$(printf '%04d' "$number")"
times=$(cat "$here/times-$kind" 2>/dev/null || echo 0)
times=$((times + 1))
echo "$times" >"$here/times-$kind"
for answer in "$here/answers/$kind.$times" "$here/answers/$kind"; do
    code=0
    [ -f "$answer" ] || [ -f "$answer.err" ] || [ -f "$answer.code" ] || continue
    [ ! -f "$answer.err" ] || {
        code=254
        cat "$answer.err" >&2
    }
    [ ! -f "$answer.code" ] || code=$(cat "$answer.code")
    [ ! -f "$answer" ] || cat "$answer"
    exit "$code"
done
echo "no answer was written for $kind" >&2
exit 99
