#!/bin/sh
# release.sh - what the pipeline does with app.properties.json: weights, and promotion of the canary.
#
# Owns: the order of the steps and what is said when one fails. Everything that reaches control goes through
# ../weir, everything that reaches ECS through the aws CLI; no CloudFormation is involved.
# It must never leave a share of the customers on a build that was not seen to answer. Next: weir.yml, ../weir.
set -u

usage() {
    cat <<'TEXT'
Usage: release.sh plan       prints `weights` or `promote`: whether a new image is needed
       release.sh release    does what app.properties.json says

With setLatestStable and setLatestStableOnce false: the weights of the file, nothing else. When SMOKE_URL is set, a
canary that does not answer there is not raised; lowering it is never held up.
With one of them true: the canary becomes the stable build, then IMAGE becomes the canary, then the weights of the file.
setLatestStableOnce is set to false in the file as soon as the canary is the stable build; committing it is the
workflow's. A canary without a share of the traffic is not promoted: it was rolled back or never shown to anyone, so
IMAGE takes its place.

Variables:
  MODE              copy: v1's service gets v2's image, v2's service gets IMAGE, v1 stays the stable target
                    swap: v2 becomes the stable target with all traffic, v1's service gets IMAGE as the new canary;
                    next time the other way round. traffic_weight_route2 is then the canary's share, whoever it is
  IMAGE             the new build; needed only to promote
  PROPERTIES        the file; app.properties.json
  WEIR_CLUSTER      the ECS cluster; all other settings of weir count too (weir --help)
  ROUTE             the route; svc1
  V1, V2            its targets; v1, v2
  V1_SERVICE, V2_SERVICE        their ECS services; service1_name and service2_name of the file
  V1_CONTAINER, V2_CONTAINER    the container that gets the image; needed where a task definition has several
  SMOKE_URL         an address behind the load balancer that must answer 200, such as https://shop.example/; needed
                    to promote
  SMOKE_REQUESTS    how many answers in a row must be right; 5
  OVERRIDE_HEADER   the route's override_header; x-canary
  TARGET_HEADER     the route's target_header; x-weir-target
  POLL_SECONDS      between two questions to ECS; 15

Exit codes: 0 everything was done; 1 stopped, and it says where and what state things are in; 2 the settings are wrong;
when only the weights at the end failed: the exit code of weir.
TEXT
}

say() { printf 'release: %s\n' "$*" >&2; }

# What is true at this moment, for the sentence that a failure ends with.
state="nothing was changed"

# stop WHAT CURE
stop() {
    printf 'release: STOPPED: %s\n  state: %s\n' "$1" "$state" >&2
    [ -z "${2:-}" ] || printf '  cure: %s\n' "$2" >&2
    exit 1
}

wrong() {
    printf 'release: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '  cure: %s\n' "$2" >&2
    exit 2
}

# ---- JSON -----------------------------------------------------------------------------------------------------------

# Standard input (one JSON document) as lines PATH=VALUE: `.routes[0].stable=v1`. Ends with 1 when it is not JSON.
# Escapes in strings stay as they are, but for \" \\ and \/; no name or image has others.
json_lines() {
    LC_ALL=C awk '
    function fault(what) {
        printf "not JSON: %s at character %d\n", what, at > "/dev/stderr"
        bad = 1
        exit 1
    }
    function blank() { while (index(" \t\r\n", substr(text, at, 1)) && at <= size) at++ }
    function string(   c, out) {
        if (substr(text, at, 1) != "\"") fault("a string is expected")
        out = ""
        for (at++; at <= size; at++) {
            c = substr(text, at, 1)
            if (c == "\"") { at++; return out }
            if (c == "\n") fault("a string has no end")
            if (c == "\\") {
                at++
                c = substr(text, at, 1)
                if (c != "\"" && c != "\\" && c != "/") c = "\\" c
            }
            out = out c
        }
        fault("a string has no end")
    }
    function value(path,   c, key, n, word) {
        if (++depth > 64) fault("too deep")
        blank()
        c = substr(text, at, 1)
        if (c == "{" || c == "[") {
            at++
            n = 0
            blank()
            if (substr(text, at, 1) == (c == "{" ? "}" : "]")) { at++; depth--; return }
            for (;;) {
                blank()
                if (c == "{") {
                    key = string()
                    blank()
                    if (substr(text, at++, 1) != ":") fault("a colon is expected")
                    value(path "." key)
                } else value(path "[" n++ "]")
                blank()
                word = substr(text, at++, 1)
                if (word == (c == "{" ? "}" : "]")) break
                if (word != ",") fault("a comma is expected")
            }
        } else if (c == "\"") print path "=" string()
        else {
            if (!match(substr(text, at), /^[-+.0-9a-zA-Z]+/)) fault("a value is expected")
            word = substr(text, at, RLENGTH)
            if (word !~ /^(true|false|null|-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?)$/) fault(word)
            print path "=" word
            at += RLENGTH
        }
        depth--
    }
    { text = text $0 "\n" }
    END {
        if (bad) exit 1
        size = length(text)
        at = 1
        value("")
        blank()
        if (at <= size) fault("something follows the end")
    }'
}

# The value of path $2 in the lines $1; empty when it is not there.
pick() {
    PICK=$2= awk 'BEGIN { key = ENVIRON["PICK"] } index($0, key) == 1 { print substr($0, length(key) + 1); exit }' <<LINES
$1
LINES
}

# ---- What is wanted -------------------------------------------------------------------------------------------------

read_properties() {
    [ -r "$PROPERTIES" ] || wrong "$PROPERTIES cannot be read" "set PROPERTIES to the path of app.properties.json"
    properties=$(json_lines <"$PROPERTIES") || wrong "$PROPERTIES is not JSON" "the line above says where"
    once=$(pick "$properties" .setLatestStableOnce)
    always=$(pick "$properties" .setLatestStable)
    for flag in "$once" "$always"; do
        case $flag in true | false | '') ;; *) wrong "setLatestStable and setLatestStableOnce are true or false, not $flag" ;; esac
    done
    if [ "$once" = true ] || [ "$always" = true ]; then plan=promote; else plan=weights; fi
    [ -n "$V1_SERVICE" ] || V1_SERVICE=$(pick "$properties" .service1_name)
    [ -n "$V2_SERVICE" ] || V2_SERVICE=$(pick "$properties" .service2_name)
}

check_promotion() {
    [ -n "$WEIR_CLUSTER" ] || wrong "no cluster is named" "set WEIR_CLUSTER"
    [ -n "$IMAGE" ] || wrong "the canary is to become stable, but there is no new build" "set IMAGE"
    [ -n "$SMOKE_URL" ] || wrong "no address for the smoke test" "set SMOKE_URL to an address behind the load balancer"
    if [ -z "$V1_SERVICE" ] || [ -z "$V2_SERVICE" ]; then
        wrong "the ECS services are not known" "set V1_SERVICE and V2_SERVICE, or service1_name and service2_name in $PROPERTIES"
    fi
}

# ---- control --------------------------------------------------------------------------------------------------------

# What control says now: $stable, $canary, $canary_weight (hundredths of a percent).
read_route() {
    answer=$("$WEIR" get "$ROUTE" --json) || stop "control did not tell about $ROUTE (exit code $?)" "weir get $ROUTE"
    route=$(printf '%s\n' "$answer" | json_lines) || stop "what control said about $ROUTE is not JSON: $answer"
    stable=$(pick "$route" '.routes[0].stable')
    case $stable in
    "$V1") canary=$V2 ;;
    "$V2") canary=$V1 ;;
    *) stop "the stable target of $ROUTE is '$stable', neither $V1 nor $V2" "set V1 and V2 to the targets of the route" ;;
    esac
    canary_weight=$(pick "$route" ".routes[0].weights.$canary")
    case $canary_weight in
    '' | *[!0-9]*) stop "control does not know the weights of $ROUTE yet" "weir get $ROUTE says why; weir adopt" ;;
    esac
}

# weir WHAT ARGUMENTS...: a change that must be served before anything else is done.
change() {
    what=$1
    shift
    say "$what"
    "$WEIR" "$@" --reason "release: $what"
    code=$?
    [ "$code" = 0 ] || stop "$what: weir ended with $code" "weir get $ROUTE tells what is served"
}

# The last step. Control says itself what is wrong.
set_weights() {
    say "weights of $PROPERTIES"
    if [ "$MODE" = copy ]; then
        set -- --map "service1=$V1,service2=$V2"
    else
        set -- --map "service1=$stable,service2=$canary"
    fi
    # By it control tells the canary that was rolled back from another build in its place. Never --force: that would also
    # give a share to a version without endpoints.
    [ -z "$build" ] || set -- "$@" --build "$build"
    "$WEIR" apply "$PROPERTIES" --route "$ROUTE" "$@" --reason "release: $PROPERTIES"
    code=$?
    [ "$code" = 0 ] && return 0
    case $code in
    3 | 4) state="the new weights are stored, but not every gateway serves them" ;;
    esac
    printf 'release: STOPPED: the weights: weir ended with %s\n  state: %s\n  cure: weir get %s\n' "$code" "$state" "$ROUTE" >&2
    exit "$code"
}

# ---- ECS ------------------------------------------------------------------------------------------------------------

service_of() { if [ "$1" = "$V1" ]; then printf '%s' "$V1_SERVICE"; else printf '%s' "$V2_SERVICE"; fi; }

# call WHAT AWS-ARGUMENTS...: the output in $answer, or the end.
call() {
    what=$1
    shift
    answer=$(aws "$@" --output text) || stop "$what: the aws CLI failed; its words are above" "$after_failure"
}

# Of target $1: $service, $definition, $desired, $container, $image.
read_service() {
    after_failure="read-only calls: check the role of the pipeline and WEIR_CLUSTER"
    service=$(service_of "$1")
    call "describing the service $service" ecs describe-services --cluster "$WEIR_CLUSTER" --services "$service" \
        --query '[[services[0].status],[services[0].taskDefinition],[services[0].desiredCount]]'
    {
        IFS= read -r status
        IFS= read -r definition
        IFS= read -r desired
    } <<ROWS
$answer
ROWS
    [ "$status" = ACTIVE ] || stop "the cluster $WEIR_CLUSTER has no active service $service ($status)" \
        "set V1_SERVICE and V2_SERVICE to the names of the ECS services"
    [ "$desired" != 0 ] || stop "the service $service is scaled to 0 tasks" "scale it up first"
    if [ "$1" = "$V1" ]; then container=$V1_CONTAINER; else container=$V2_CONTAINER; fi
    call "describing the task definition $definition" ecs describe-task-definition --task-definition "$definition" \
        --query "taskDefinition.containerDefinitions[].[name,image]"
    if [ -z "$container" ]; then
        container=$(printf '%s\n' "$answer" | awk '{ print $1 }')
        case $container in
        *'
'*) stop "the task definition $definition has several containers" "set V1_CONTAINER and V2_CONTAINER to the one that gets the image" ;;
        esac
    fi
    image=$(printf '%s\n' "$answer" | awk -v name="$container" '$1 == name { print $2 }')
    [ -n "$image" ] || stop "the task definition $definition has no container $container" "set V1_CONTAINER and V2_CONTAINER"
}

# A new revision of $definition with image $1 in $container: $registered. What describe-task-definition shows and
# register-task-definition does not take (revision, status and the like) is left out; tags are kept.
register() {
    merged="taskDefinition.containerDefinitions[?name=='$container'].merge(@,\`{\"image\":\"$1\"}\`)"
    others="taskDefinition.containerDefinitions[?name!='$container']"
    call "reading the task definition $definition" ecs describe-task-definition --task-definition "$definition" --include TAGS \
        --query "[[taskDefinition.family],[to_string([$merged,$others][])],[to_string(taskDefinition.taskRoleArn)],[to_string(taskDefinition.executionRoleArn)],[to_string(taskDefinition.networkMode)],[to_string(taskDefinition.cpu)],[to_string(taskDefinition.memory)],[to_string(taskDefinition.pidMode)],[to_string(taskDefinition.ipcMode)],[to_string(taskDefinition.requiresCompatibilities)],[to_string(taskDefinition.volumes)],[to_string(taskDefinition.placementConstraints)],[to_string(taskDefinition.runtimePlatform)],[to_string(taskDefinition.ephemeralStorage)],[to_string(taskDefinition.proxyConfiguration)],[to_string(tags)]]"
    {
        IFS= read -r family
        IFS= read -r containers
        set -- --family "$family" --container-definitions "$containers"
        for option in task-role-arn execution-role-arn network-mode cpu memory pid-mode ipc-mode requires-compatibilities \
            volumes placement-constraints runtime-platform ephemeral-storage proxy-configuration tags; do
            IFS= read -r setting
            case $setting in null | None | '[]' | '') ;; *) set -- "$@" "--$option" "$setting" ;; esac
        done
    } <<ROWS
$answer
ROWS
    call "registering a task definition of $family" ecs register-task-definition "$@" --query taskDefinition.taskDefinitionArn
    registered=$answer
}

# Waits for service $1 to run task definition $2 and nothing else.
await_steady() {
    say "waiting for $1 to be steady"
    aws ecs wait services-stable --cluster "$WEIR_CLUSTER" --services "$1" ||
        stop "$1 did not become steady" "$after_failure"
    asked=0
    while :; do
        call "asking for $1" ecs describe-services --cluster "$WEIR_CLUSTER" --services "$1" --query \
            "[[services[0].deployments[?status=='PRIMARY']|[0].taskDefinition],[services[0].deployments[?status=='PRIMARY']|[0].rolloutState],[services[0].runningCount],[services[0].desiredCount]]"
        {
            IFS= read -r running_definition
            IFS= read -r rollout
            IFS= read -r running
            IFS= read -r wanted
        } <<ROWS
$answer
ROWS
        # ECS's circuit breaker goes back to the old task definition, and then the service is steady too.
        [ "$running_definition" = "$2" ] || stop "$1 runs ${running_definition##*/}, not ${2##*/}: ECS went back to it" "$after_failure"
        # The counts may be right a little before ECS says that the deployment is done.
        asked=$((asked + 1))
        { [ "$rollout" = IN_PROGRESS ] && [ "$asked" -lt 20 ]; } || break
        sleep "$POLL_SECONDS"
    done
    case $rollout in COMPLETED | None) ;; *) stop "the deployment of $1 is $rollout" "$after_failure" ;; esac
    if [ "$running" != "$wanted" ] || [ "$running" = 0 ]; then
        stop "$1 runs $running of $wanted tasks" "$after_failure"
    fi
}

# deploy TARGET IMAGE: the target's service runs it and is steady.
deploy() {
    read_service "$1"
    if [ "$image" = "$2" ]; then
        say "$service has the image $2 already"
        after_failure="see the events of the service $service in ECS"
        await_steady "$service" "$definition"
        return
    fi
    say "deploying $2 to $service"
    after_failure="see the events of the service $service in ECS; back: aws ecs update-service --cluster $WEIR_CLUSTER --service $service --task-definition $definition"
    register "$2"
    call "updating the service $service" ecs update-service --cluster "$WEIR_CLUSTER" --service "$service" \
        --task-definition "$registered" --query service.serviceArn
    await_steady "$service" "$registered"
}

# smoke TARGET: through the load balancer and the gateways, by the override header.
smoke() {
    say "smoke test of $1: $SMOKE_REQUESTS requests to $SMOKE_URL"
    n=0
    while [ "$n" -lt "$SMOKE_REQUESTS" ]; do
        n=$((n + 1))
        head=$(curl -sS -o /dev/null -D - --max-time 20 -H "$OVERRIDE_HEADER: $1" "$SMOKE_URL") ||
            stop "smoke test of $1: curl ended with $?" "curl -i -H '$OVERRIDE_HEADER: $1' $SMOKE_URL"
        # The last head counts: a proxy before the load balancer may send its own.
        status=$(printf '%s\n' "$head" | awk '/^HTTP\// { status = $2 } END { print status }')
        served=$(printf '%s\n' "$head" | TARGET_HEADER=$TARGET_HEADER awk '
            BEGIN { want = tolower(ENVIRON["TARGET_HEADER"]) ":" }
            /^HTTP\// { found = "" }
            index(tolower($0), want) == 1 { found = substr($0, length(want) + 1); gsub(/[ \t\r]/, "", found) }
            END { print found }')
        [ "$status" = 200 ] || stop "smoke test of $1: answer $n was $status, not 200" "curl -i -H '$OVERRIDE_HEADER: $1' $SMOKE_URL"
        [ "$served" = "$1" ] || stop "smoke test of $1: answer $n came from '$served'" \
            "the route needs override_header: $OVERRIDE_HEADER and target_header: $TARGET_HEADER, and $1 a usable endpoint"
    done
}

# ---- Promotion ------------------------------------------------------------------------------------------------------

# From here on a second run must not promote again.
promoted() {
    [ "$once" = true ] || return 0
    changed=$(sed 's/\("setLatestStableOnce"[[:space:]]*:[[:space:]]*\)true/\1false/' "$PROPERTIES")
    lines=$(printf '%s\n' "$changed" | json_lines)
    if [ "$(pick "$lines" .setLatestStableOnce)" != false ] || ! printf '%s\n' "$changed" >"$PROPERTIES"; then
        stop "setLatestStableOnce in $PROPERTIES could not be set to false" "set it by hand before the next run"
    fi
    say "setLatestStableOnce is false in $PROPERTIES"
}

promote_copy() {
    [ "$stable" = "$V1" ] || stop "in the mode copy the stable target is $V1, but control has $stable" \
        "MODE=swap, or make $V1 stable by hand: weir stable $ROUTE $V1"
    smoke "$canary"
    read_service "$canary"
    promoted_image=$image
    change "$canary to 0 %" set-weight "$ROUTE" "$canary=0"
    state="$canary has 0 %, so all requests go to $stable"
    again="to try again, raise $canary first: a canary without traffic is not promoted"
    state="$state, whose old tasks serve until new ones are healthy; $again"
    deploy "$stable" "$promoted_image"
    state="$canary has 0 %; $stable runs $promoted_image; $again"
    smoke "$stable"
    change "$stable is now $promoted_image" stable "$ROUTE" "$stable" --build "$promoted_image"
}

promote_swap() {
    smoke "$canary"
    read_service "$stable"
    needed=$desired
    read_service "$canary"
    promoted_image=$image
    if [ "$desired" -lt "$needed" ]; then
        say "scaling $service from $desired to $needed tasks: it is to carry everything"
        after_failure="the weights are as before; see the events of the service $service in ECS"
        call "scaling $service" ecs update-service --cluster "$WEIR_CLUSTER" --service "$service" \
            --desired-count "$needed" --query service.serviceArn
        state="$service is scaled to $needed tasks, the weights are as before"
        await_steady "$service" "$definition"
    fi
    # First the weight, then the name. After a failure between the two a second run goes on with the same canary; the
    # other way round it would take the old build, which still has its weight, for the canary and promote that.
    change "$canary to 100 %" set-weight "$ROUTE" "$canary=100"
    state="$canary has 100 %, $stable is the stable target still; running this again goes on from here"
    change "$canary is now the stable target ($promoted_image)" stable "$ROUTE" "$canary" --build "$promoted_image"
    old=$stable
    stable=$canary
    canary=$old
    state="$stable is the stable target with all requests"
    say "for weir bypass: WEIR_STABLE_TARGET_GROUP must be the target group of $service from now on"
}

promote() {
    check_promotion
    read_route
    read_service "$canary"
    failed_deploy="$canary has 0 %, all requests go to $stable; running this again deploys the new build to $canary again"
    if [ "$image" = "$IMAGE" ]; then
        failed_deploy="the weights are as before"
        say "$canary runs $IMAGE already: there is nothing to promote"
    elif [ "$canary_weight" = 0 ]; then
        say "$canary has 0 % of $ROUTE: it is not promoted, the new build takes its place"
    elif [ "$MODE" = copy ]; then
        promote_copy
    else
        promote_swap
        failed_deploy="$canary has 0 %, all requests go to $stable; running this again deploys the new build to $canary again"
    fi
    promoted
    state=$failed_deploy
    deploy "$canary" "$IMAGE"
    smoke "$canary"
    build=$IMAGE
}

# What the canary runs, for weights alone. They are set without it too, because lowering a canary is never held up.
find_build() {
    [ "$(pick "$properties" .traffic_weight_route2)" != 0 ] || return 0
    target=$V2
    [ "$MODE" = copy ] || target=$canary
    found=$(
        # shellcheck disable=SC2317,SC2329 # read_service calls it
        stop() {
            printf '%s' "$1"
            exit 1
        }
        [ -n "$WEIR_CLUSTER" ] || stop "WEIR_CLUSTER is not set"
        [ -n "$(service_of "$target")" ] || stop "its ECS service is not named"
        read_service "$target"
        printf '%s' "$image"
    ) || {
        say "which build $target runs is not known ($found); after a rollback control will not raise it"
        return 0
    }
    build=$found
}

# A build whose smoke test failed has 0 % and stays where it is: a later push of weights must not raise it unseen.
look_before_weights() {
    wanted=$(pick "$properties" .traffic_weight_route2)
    case $wanted in '' | 0) return 0 ;; esac
    [ -n "$SMOKE_URL" ] || return 0
    target=$V2
    if [ "$MODE" = swap ]; then target=$canary; fi
    if (smoke "$target"); then return 0; fi
    [ "$MODE" = swap ] || read_route
    now=$(pick "$route" ".routes[0].weights.$target")
    if WANTED=$wanted NOW=${now:-0} awk 'BEGIN { exit !(ENVIRON["WANTED"] * 100 > ENVIRON["NOW"]) }'; then
        stop "$target fails its smoke test and is not raised to $wanted" "lower its weight, or release a build that answers"
    fi
    say "$target fails its smoke test; its weight does not rise, so the weights are set"
}

interrupted() {
    trap '' INT TERM HUP
    stop "interrupted" "weir get $ROUTE"
}

MODE=${MODE:-copy}
IMAGE=${IMAGE:-}
PROPERTIES=${PROPERTIES:-app.properties.json}
ROUTE=${ROUTE:-svc1}
V1=${V1:-v1}
V2=${V2:-v2}
V1_SERVICE=${V1_SERVICE:-}
V2_SERVICE=${V2_SERVICE:-}
V1_CONTAINER=${V1_CONTAINER:-}
V2_CONTAINER=${V2_CONTAINER:-}
SMOKE_URL=${SMOKE_URL:-}
SMOKE_REQUESTS=${SMOKE_REQUESTS:-5}
OVERRIDE_HEADER=${OVERRIDE_HEADER:-x-canary}
TARGET_HEADER=${TARGET_HEADER:-x-weir-target}
POLL_SECONDS=${POLL_SECONDS:-15}
# What the canary runs when the weights are set; empty while it is not known.
build=
WEIR_CLUSTER=${WEIR_CLUSTER:-}
WEIR=${WEIR:-$(dirname "$0")/../weir}
export AWS_PAGER=''
# Version 1 of the aws CLI knows only the older name.
[ -z "${AWS_REGION:-}" ] || export AWS_REGION AWS_DEFAULT_REGION="$AWS_REGION"
trap interrupted INT TERM HUP

case $MODE in copy | swap) ;; *) wrong "MODE is copy or swap, not $MODE" ;; esac
case $SMOKE_REQUESTS in '' | *[!0-9]* | 0*) wrong "SMOKE_REQUESTS is a number from 1, not '$SMOKE_REQUESTS'" ;; esac
case $POLL_SECONDS in '' | *[!0-9]*) wrong "POLL_SECONDS is a number, not '$POLL_SECONDS'" ;; esac
case ${1:-} in
plan)
    read_properties
    printf '%s\n' "$plan"
    ;;
release)
    read_properties
    if [ "$plan" = promote ]; then
        promote
    else
        [ "$MODE" = copy ] || read_route
        look_before_weights
        find_build
    fi
    set_weights
    say "done"
    ;;
-h | --help | help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
