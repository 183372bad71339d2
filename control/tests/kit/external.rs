//! The kit before those who know better: cfn-lint, shellcheck, and moto in the place of an account.

use super::{example, file, kit, kits, other};
use control::kit::{Flags, write};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::process::{Moto, test_env};

fn tool(name: &str) -> PathBuf {
    test_env(&format!("bin/{name}")).unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{printed}{errors}");
    printed
}

#[test]
#[ignore = "needs cfn-lint"]
fn cfn_lint_has_nothing_to_say_about_the_templates() {
    let http_again = Flags { certificate: None, namespace_id: None, ..other() };
    for kit in [kit(example()), kit(other()), kit(http_again)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &kit, false).unwrap();
        let templates = kit
            .iter()
            .map(|file| file.path.as_str())
            .filter(|path| *path == "weir.yaml" || path.contains("/addons/"))
            .collect::<Vec<_>>();
        assert_eq!(templates.len(), 4, "{templates:?}");
        run(Command::new(tool("cfn-lint"))
            .current_dir(folder.path())
            .args(["--non-zero-exit-code", "warning", "--"])
            .args(templates));
    }
}

#[test]
#[ignore = "needs cfn-lint"]
fn cfn_lint_would_have_said_something_about_a_wrong_template() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(&kit(example()), "weir.yaml").replace("DesiredCount: 1", "DesiredNumber: 1");
    std::fs::write(folder.path().join("weir.yaml"), text).unwrap();
    let status = Command::new(tool("cfn-lint")).arg(folder.path().join("weir.yaml")).output().unwrap().status;
    assert!(!status.success());
}

#[test]
#[ignore = "needs shellcheck"]
fn shellcheck_has_nothing_to_say_about_the_script() {
    for kit in kits() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &kit, false).unwrap();
        run(Command::new(tool("shellcheck")).arg(folder.path().join("create.sh")));
    }
}

/// The aws CLI, with moto in the place of AWS.
pub struct Account {
    pub moto: Moto,
    path: String,
}

impl Account {
    pub async fn start() -> Self {
        let moto = Moto::start().await.unwrap();
        let programs = test_env("bin").unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        Self { moto, path }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).envs(self.moto.envs()).env("AWS_DEFAULT_REGION", "ap-south-1");
        command
    }

    pub fn aws(&self, args: &[&str]) -> String {
        run(self.command(tool("aws")).args(args).args(["--output", "text"])).trim().to_owned()
    }

    fn network(&self) -> Flags {
        let vpc = self.aws(&["ec2", "create-vpc", "--cidr-block", "10.0.0.0/16", "--query", "Vpc.VpcId"]);
        let subnet = |zone: &str, block: &str| {
            let args = ["--availability-zone", zone, "--cidr-block", block, "--query", "Subnet.SubnetId"];
            self.aws(&[&["ec2", "create-subnet", "--vpc-id", &vpc], &args[..]].concat())
        };
        let subnets = vec![subnet("ap-south-1a", "10.0.1.0/24"), subnet("ap-south-1b", "10.0.2.0/24")];
        Flags { vpc: Some(vpc), public_subnets: subnets.clone(), private_subnets: subnets, ..example() }
    }

    /// The weights of the listener, by the names of the target groups.
    fn weights(&self) -> Vec<(String, String)> {
        let alb =
            self.aws(&["elbv2", "describe-load-balancers", "--query", "LoadBalancers[0].LoadBalancerArn"]);
        let query = "Listeners[0].DefaultActions[0].ForwardConfig.TargetGroups[].[TargetGroupArn,Weight]";
        let listener =
            self.aws(&["elbv2", "describe-listeners", "--load-balancer-arn", &alb, "--query", query]);
        let name = |arn: &str| arn.split('/').nth(1).unwrap().to_owned();
        let pair =
            |line: &str| line.split_once('\t').map(|(arn, weight)| (name(arn), weight.to_owned())).unwrap();
        listener.lines().map(pair).collect()
    }
}

fn weights(weir: &str, v1: &str) -> Vec<(String, String)> {
    [("my-app-weir", weir), ("my-app-v1", v1), ("my-app-v2", "0")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into()
}

/// The fenced blocks of shell in the README.
fn blocks(readme: &str) -> Vec<&str> {
    readme.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect()
}

#[tokio::test]
#[ignore = "needs moto"]
async fn the_script_makes_everything_once_and_the_two_commands_go_past_weir_and_back() {
    let account = Account::start().await;
    let flags = account.network();
    let kit = kit(flags);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &kit, false).unwrap();
    let script = |path: &Path| account.command("sh").arg("create.sh").current_dir(path).output().unwrap();
    let made = script(folder.path());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let services =
        account.aws(&["ecs", "list-services", "--cluster", "my-app", "--query", "length(serviceArns)"]);
    assert_eq!(services, "4");
    let item = [
        "dynamodb",
        "describe-table",
        "--table-name",
        "my-app-weir-state",
        "--query",
        "Table.KeySchema[0].AttributeName",
    ];
    assert_eq!(account.aws(&item), "key");
    let token = [
        "secretsmanager",
        "get-secret-value",
        "--secret-id",
        "my-app/weir/operator-token",
        "--query",
        "SecretString",
    ];
    let token = account.aws(&token);
    assert!(token.len() == 48 && token.bytes().all(|b| b.is_ascii_alphanumeric()), "{} bytes", token.len());
    assert_eq!(account.weights(), weights("100", "0"));

    // The values come from the stack, which is not there: by name instead, as the README says for such an account.
    let blocks = blocks(file(&kit, "README.md"));
    let [_, past, back, settings] = blocks.as_slice() else { panic!("{blocks:?}") };
    let weir = super::root().join("config/ecs/weir");
    let by_name = r#"
        group() { aws elbv2 describe-target-groups --names "$1" --query 'TargetGroups[0].TargetGroupArn' --output text; }
        ALB=$(aws elbv2 describe-load-balancers --query 'LoadBalancers[0].LoadBalancerArn' --output text)
        LISTENER=$(aws elbv2 describe-listeners --load-balancer-arn "$ALB" --query 'Listeners[0].ListenerArn' --output text)
        WEIR=$(group my-app-weir) V1=$(group my-app-v1) V2=$(group my-app-v2)
    "#;
    for (block, wanted) in [(past, weights("0", "100")), (back, weights("100", "0"))] {
        run(account.command("sh").args(["-euc", &format!("{by_name}\n{block}")]));
        assert_eq!(account.weights(), wanted);
    }
    // What the README writes down is what `weir bypass` goes by.
    run(account.command("sh").current_dir(folder.path()).args(["-euc", &format!("{by_name}\n{settings}")]));
    let bypass = |word: &str| {
        let line = format!("set -a; . ./weir.env; set +a; sh {} bypass {word} --force", weir.display());
        let line = line.replace("off --force", "off");
        run(account.command("sh").current_dir(folder.path()).args(["-euc", &line]));
    };
    for (word, wanted) in [("on", weights("0", "100")), ("off", weights("100", "0"))] {
        bypass(word);
        assert_eq!(account.weights(), wanted);
    }

    let again = script(folder.path());
    assert!(!again.status.success(), "a second run makes nothing twice");
    assert_eq!(account.weights(), weights("100", "0"));
}
