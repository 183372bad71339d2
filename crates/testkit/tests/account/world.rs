//! The kit deployed: control, two gateways and both versions as tasks, a load balancer and customers in front.
//!
//! Must never judge: that is what tests do.

use serde_json::Value;
use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};
use testkit::account::task::{Task, TaskDefinition};
use testkit::account::{Account, kit_task};
use testkit::alb::{Alb, Settings, Target};
use testkit::client;
use testkit::clock::real_sleep;
use testkit::process::Process;
use testkit::within;

pub const NAMESPACE: &str = "dev.my-app.local";
pub const TABLE: &str = "my-app-weir-state";
const ARN: &str = "arn:aws:secretsmanager:ap-south-1:123456789012:secret:my-app/weir";
/// Far beyond what is usual, for what no event tells of.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Looks again and again until `look` finds something; `what` names it in the failure.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            real_sleep(LOOK).await;
        }
    };
    within(PATIENCE, what, looking).await.unwrap()
}

/// ARN of one of the kit's secrets.
pub fn secret(name: &str) -> String {
    format!("{ARN}/{name}-token")
}

pub struct World {
    pub account: Account,
    pub alb: Alb,
    pub control: Option<Task>,
    pub gateways: Vec<Task>,
    pub versions: Vec<Task>,
    one_offs: u32,
}

impl World {
    /// The account with its table and secrets, and both versions; neither control nor gateways yet.
    pub async fn prepare() -> Self {
        let mut account = Account::open().await.unwrap();
        for name in ["gateway", "operator", "viewer"] {
            account.secrets.insert(secret(name), format!("the-first-{name}-token-0001"));
        }
        let settings = Settings { interval: Some(Duration::from_millis(500)), ..Settings::default() };
        let alb = Alb::start_with(settings).unwrap();
        let mut world =
            Self { account, alb, control: None, gateways: Vec::new(), versions: Vec::new(), one_offs: 0 };
        let made = world.control_command(&["init-store", "--table", TABLE]).await;
        assert!(made.status.success(), "{made:?}");
        for (name, address) in [("v1", "10.77.2.1"), ("v2", "10.77.2.2")] {
            let app = ["loadtest", "upstream", "--name", name, "--host", "0.0.0.0", "--port", "3000"];
            let task = world.account.run(&kit_task(name).unwrap().with_command(&app), address).unwrap();
            task.process.line("ready:").await.unwrap();
            world.account.register(NAMESPACE, &format!("svc1-{name}"), &task);
            world.versions.push(task);
        }
        world
    }

    /// The whole kit, healthy.
    pub async fn deploy() -> Self {
        let mut world = Self::prepare().await;
        let started = Instant::now();
        world.start_control(&kit_task("control").unwrap(), "10.77.3.1").await;
        for address in ["10.77.1.1", "10.77.1.2"] {
            world.start_gateway(&kit_task("gateway").unwrap(), address).await;
        }
        println!("control and two gateways, one after the other: healthy after {:?}", started.elapsed());
        world
    }

    /// Starts control, waits until it is healthy and registers it.
    pub async fn start_control(&mut self, definition: &TaskDefinition, address: &str) {
        let control = self.account.run(definition, address).unwrap();
        control.healthy().await.unwrap();
        self.account.register(NAMESPACE, "control", &control);
        self.control = Some(control);
    }

    /// Stops control as ECS does.
    pub async fn stop_control(&mut self) {
        let control = self.control.take().unwrap();
        self.account.deregister(NAMESPACE, "control", &control);
        assert!(control.stop().await.unwrap().success(), "{}", control.process.tail());
    }

    /// Starts a gateway, waits until it is healthy and puts it behind the load balancer.
    pub async fn start_gateway(&mut self, definition: &TaskDefinition, address: &str) -> usize {
        let gateway = self.account.run(definition, address).unwrap();
        gateway.healthy().await.unwrap();
        self.account.register(NAMESPACE, "gateway", &gateway);
        self.alb.register(Target { data: gateway.at(9080), admin: gateway.at(9901) });
        self.alb.until_healthy(gateway.at(9080)).await.unwrap();
        self.gateways.push(gateway);
        self.gateways.len() - 1
    }

    /// Stops a gateway as ECS does: out of the target group first, then SIGTERM.
    pub async fn stop_gateway(&mut self, index: usize) {
        let gateway = self.gateways.remove(index);
        self.alb.deregister(gateway.at(9080), Duration::from_secs(30)).await.unwrap();
        self.account.deregister(NAMESPACE, "gateway", &gateway);
        assert!(gateway.stop().await.unwrap().success(), "{}", gateway.process.tail());
    }

    /// A one-off task with control's task definition, as `weir` runs it, to its end.
    pub async fn control_command(&mut self, words: &[&str]) -> Output {
        self.one_offs += 1;
        let definition = kit_task("control").unwrap().with_command(&["sleep", "600"]);
        let task = self.account.run(&definition, &format!("10.77.4.{}", self.one_offs)).unwrap();
        let words: Vec<&str> = ["control"].into_iter().chain(words.iter().copied()).collect();
        tokio::task::block_in_place(|| task.exec(&words)).unwrap()
    }

    /// As [`World::control_command`], which must succeed; its answer as JSON.
    pub async fn control_json(&mut self, words: &[&str]) -> Value {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = self.control_command(&words).await;
        assert!(output.status.success(), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Sets weights; they must be in force everywhere.
    pub async fn set_weight(&mut self, words: &[&str]) {
        let words: Vec<&str> = ["set-weight", "svc1"].into_iter().chain(words.iter().copied()).collect();
        let output = self.control_command(&words).await;
        assert!(output.status.success(), "{words:?}: {output:?}\n{}", self.tails());
    }

    /// Sets weights as soon as every gateway has found the control of the hour.
    pub async fn set_weight_when_heard(&mut self, words: &[&str]) {
        until("a change that every gateway takes", async || {
            let words: Vec<&str> = ["set-weight", "svc1"].into_iter().chain(words.iter().copied()).collect();
            self.control_command(&words).await.status.success().then_some(())
        })
        .await;
    }

    /// What everybody said last on standard error, for messages.
    pub fn tails(&self) -> String {
        let tail = |task: &Task| {
            let said = task.process.stderr();
            let lines: Vec<&str> = said.lines().collect();
            format!("--- {}\n{}", task.address, lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        self.control.iter().chain(&self.gateways).map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Customers: a steady stream of requests through the load balancer, until [`Customers::leave`].
    pub async fn customers(&self) -> Customers {
        let url = self.alb.url();
        let args = ["run", &url, "--rate", "100/s", "--duration", "600s", "--connections", "16", "--json"];
        let process = Process::ours("loadtest", &args, &[]).unwrap();
        let before = self.alb.counts().requests;
        until("the first customers", async || (self.alb.counts().requests > before).then_some(())).await;
        Customers { process }
    }

    /// The names of the versions that answer some requests through the load balancer.
    pub async fn answers(&self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        let addr: SocketAddr = self.alb.addr();
        for _ in 0..count {
            let answer = client::get(addr, "/").await.unwrap();
            assert_eq!(answer.status, 200);
            names.push(answer.header("x-v").unwrap_or_default().to_owned());
        }
        names
    }
}

pub struct Customers {
    process: Process,
}

impl Customers {
    /// They leave; nobody may have seen an error. Returns how many requests they made.
    pub async fn leave(self) -> u64 {
        self.process.signal("INT").unwrap();
        let _ = self.process.exit().await.unwrap();
        let report: Value = serde_json::from_str(&self.process.stdout()).unwrap();
        assert_eq!(report["errors"], 0, "{report:#}");
        assert_eq!(report["failures"], serde_json::json!({}), "{report:#}");
        let answered = report["answered"].as_u64().unwrap();
        assert!(answered > 0, "{report:#}");
        println!("{answered} requests of customers, no error");
        answered
    }
}
