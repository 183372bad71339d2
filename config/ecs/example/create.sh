#!/bin/sh
# The steps of weir.yaml one by one, for an account without CloudFormation. Run it once, in this folder, or read it and
# run the steps that you need: it makes new things only, and stops at the first that exists already.
# Made by `control init ecs` for my-app.
set -eu
export AWS_DEFAULT_REGION=ap-south-1 AWS_PAGER=''

prefix='my-app'
vpc='vpc-0123456789abcdef0'
cluster='my-app'
namespace='dev.my-app.local'
namespace_id=''
subnets='subnet-0c123456789abcdef,subnet-0d123456789abcdef'
# ENABLED when these are public subnets without NAT.
public_ip=DISABLED

say() { printf '%s\n' "$*" >&2; }

say '1 what is remembered: table, tokens, logs'
aws dynamodb create-table --table-name my-app-weir-state --billing-mode PAY_PER_REQUEST \
  --attribute-definitions AttributeName=key,AttributeType=S --key-schema AttributeName=key,KeyType=HASH >/dev/null
aws dynamodb wait table-exists --table-name my-app-weir-state
aws dynamodb update-continuous-backups --table-name my-app-weir-state \
  --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true >/dev/null
for kind in gateway operator viewer; do
  token=$(aws secretsmanager get-random-password --password-length 48 --exclude-punctuation \
    --query RandomPassword --output text)
  # By a file that only this user can read: arguments show in the list of processes.
  file=$(umask 077 && mktemp)
  printf '%s' "$token" >"$file"
  aws secretsmanager create-secret --name "$prefix/weir/$kind-token" --secret-string "file://$file" >/dev/null
  rm -f "$file"
done
for log in gateway control service; do
  aws logs create-log-group --log-group-name "/ecs/$prefix-$log"
  aws logs put-retention-policy --log-group-name "/ecs/$prefix-$log" --retention-in-days 30
done

say '2 permissions'
for role in gateway-execution gateway-task control-execution control-task service-execution; do
  aws iam create-role --role-name "$prefix-$role" --assume-role-policy-document file://iam/trust.json >/dev/null
  aws iam put-role-policy --role-name "$prefix-$role" --policy-name weir --policy-document "file://iam/$role.json"
done

say '3 names in Cloud Map'
if [ -z "$namespace_id" ]; then
  operation=$(aws servicediscovery create-private-dns-namespace --name "$namespace" --vpc "$vpc" \
    --properties 'DnsProperties={SOA={TTL=10}}' --query OperationId --output text)
  while :; do
    status=$(aws servicediscovery get-operation --operation-id "$operation" --query Operation.Status --output text)
    case $status in
      SUCCESS) break ;;
      FAIL) say "the namespace was not made: operation $operation"; exit 1 ;;
    esac
    sleep 2
  done
  # By the operation, not by its name: another VPC may have a namespace of the same name.
  namespace_id=$(aws servicediscovery get-operation --operation-id "$operation" \
    --query Operation.Targets.NAMESPACE --output text)
fi
registry() {
  aws servicediscovery create-service --name "$1" --namespace-id "$namespace_id" \
    --dns-config 'RoutingPolicy=MULTIVALUE,DnsRecords=[{Type=A,TTL=10}]' --query Service.Arn --output text
}
control_registry=$(registry control)
gateway_registry=$(registry gateway)
service1_registry=$(registry svc1-v1)
service2_registry=$(registry svc1-v2)

say '4 security groups'
group() {
  aws ec2 create-security-group --group-name "$prefix-$1" --description "$2" --vpc-id "$vpc" --query GroupId --output text
}
# port of group $1 from group $2
open() {
  aws ec2 authorize-security-group-ingress --group-id "$1" --protocol tcp --port "$3" --source-group "$2" >/dev/null
}
alb_group=$(group alb 'The load balancer in front of Weir')
gateway_group=$(group gateway 'Weir gateways')
control_group=$(group control 'Weir control, and the tasks that run its commands')
service_group=$(group service 'v1 and v2')
aws ec2 authorize-security-group-ingress --group-id "$alb_group" --protocol tcp --port 80 --cidr 0.0.0.0/0 >/dev/null
open "$gateway_group" "$alb_group" 9080
open "$gateway_group" "$alb_group" 9901
open "$control_group" "$gateway_group" 18000
open "$control_group" "$control_group" 18000
open "$service_group" "$gateway_group" 3000
open "$service_group" "$alb_group" 3000

say '5 load balancer: Weir with weight 100, and past Weir with weight 0'
alb=$(aws elbv2 create-load-balancer --name "$prefix" --type application \
  --subnets subnet-0a123456789abcdef subnet-0b123456789abcdef --security-groups "$alb_group" \
  --query 'LoadBalancers[0].LoadBalancerArn' --output text)
gateway_targets=$(aws elbv2 create-target-group --name "$prefix-weir" --vpc-id "$vpc" --target-type ip \
  --protocol HTTP --port 9080 --health-check-path /server_info --health-check-port 9901 \
  --health-check-interval-seconds 15 --health-check-timeout-seconds 10 \
  --healthy-threshold-count 3 --unhealthy-threshold-count 2 --matcher HttpCode=200 \
  --query 'TargetGroups[0].TargetGroupArn' --output text)
past_weir() {
  aws elbv2 create-target-group --name "$prefix-$1" --vpc-id "$vpc" --target-type ip \
    --protocol HTTP --port 3000 --health-check-path '/' \
    --health-check-interval-seconds 15 --health-check-timeout-seconds 10 \
    --healthy-threshold-count 2 --unhealthy-threshold-count 5 --matcher HttpCode=200-499 \
    --query 'TargetGroups[0].TargetGroupArn' --output text
}
service1_targets=$(past_weir v1)
service2_targets=$(past_weir v2)
for targets in "$gateway_targets" "$service1_targets" "$service2_targets"; do
  aws elbv2 modify-target-group-attributes --target-group-arn "$targets" \
    --attributes Key=deregistration_delay.timeout_seconds,Value=30 >/dev/null
done
listener=$(aws elbv2 create-listener --load-balancer-arn "$alb" --protocol HTTP --port 80 --default-actions \
  "Type=forward,ForwardConfig={TargetGroups=[{TargetGroupArn=$gateway_targets,Weight=100},{TargetGroupArn=$service1_targets,Weight=0},{TargetGroupArn=$service2_targets,Weight=0}]}" \
  --query 'Listeners[0].ListenerArn' --output text)
# Never matches, and keeps both groups with the load balancer, whatever the default action is changed to.
aws elbv2 create-rule --listener-arn "$listener" --priority 50000 \
  --conditions 'Field=source-ip,SourceIpConfig={Values=[192.0.2.1/32]}' --actions \
  "Type=forward,ForwardConfig={TargetGroups=[{TargetGroupArn=$service1_targets,Weight=1},{TargetGroupArn=$service2_targets,Weight=1}]}" >/dev/null

say '6 task definitions and services: versions, control, gateways'
aws ecs create-cluster --cluster-name "$cluster" >/dev/null
for definition in control gateway v1 v2; do
  aws ecs register-task-definition --cli-input-json "file://task-definitions/$definition.json" >/dev/null
done
network() { printf 'awsvpcConfiguration={subnets=[%s],securityGroups=[%s],assignPublicIp=%s}' "$subnets" "$1" "$public_ip"; }
rolling='deploymentCircuitBreaker={enable=true,rollback=true},minimumHealthyPercent=100,maximumPercent=200'
one_at_a_time='deploymentCircuitBreaker={enable=true,rollback=true},minimumHealthyPercent=0,maximumPercent=100'
# service, its registry, its target group
version() {
  aws ecs create-service --cluster "$cluster" --service-name "$prefix-$1" --task-definition "$prefix-$1" \
    --launch-type FARGATE --desired-count 1 --deployment-configuration "$rolling" \
    --network-configuration "$(network "$service_group")" --service-registries "registryArn=$2" \
    --load-balancers "targetGroupArn=$3,containerName=app,containerPort=3000" \
    --health-check-grace-period-seconds 120 >/dev/null
}
version svc1-v1 "$service1_registry" "$service1_targets"
version svc1-v2 "$service2_registry" "$service2_targets"
aws ecs create-service --cluster "$cluster" --service-name "$prefix-control" --task-definition "$prefix-control" \
  --launch-type FARGATE --desired-count 1 --deployment-configuration "$one_at_a_time" \
  --availability-zone-rebalancing DISABLED --enable-execute-command \
  --network-configuration "$(network "$control_group")" --service-registries "registryArn=$control_registry" >/dev/null
aws ecs create-service --cluster "$cluster" --service-name "$prefix-gateway-service" \
  --task-definition "$prefix-service-gateway" \
  --launch-type FARGATE --desired-count 2 --deployment-configuration "$rolling" --enable-execute-command \
  --network-configuration "$(network "$gateway_group")" --service-registries "registryArn=$gateway_registry" \
  --load-balancers "targetGroupArn=$gateway_targets,containerName=service-gateway,containerPort=9080" \
  --health-check-grace-period-seconds 60 >/dev/null

say "done: http://$(aws elbv2 describe-load-balancers --load-balancer-arns "$alb" --query 'LoadBalancers[0].DNSName' --output text)/ answers in a few minutes"
