//! The environment of the gateway: variables of App Mesh's Envoy image, and our own.
//!
//! Owns their names, what they mean here, and how a configuration is made of them and a file. A variable of the image
//! must never stop a start: what cannot be read is ignored and listed. One of ours that cannot be used stops it, by
//! name. Next: `app.rs`.

use gateway_config::model::{Bootstrap, Control, Secret, StateItem};
use gateway_config::rules::Rule;
use gateway_config::{MAX_FILE_BYTES, parse_bootstrap, parse_partial_bootstrap, read_bootstrap};
use std::path::Path;

/// Value of the state item's partition key when `GATEWAY_STATE_KEY` says nothing.
const DEFAULT_STATE_KEY: &str = "weir";
/// Every PEM certificate begins so.
const PEM: &str = "-----BEGIN CERTIFICATE-----";

/// The variables, for `--help`.
pub const HELP: &str = "\
Variables; each wins over the configuration:
  GATEWAY_CONTROL      where control is, http://HOST:18000 or https://HOST:18000; it gives weights, and listeners and
                       clusters when the configuration has none
  GATEWAY_TOKEN        a gateway token of control
  GATEWAY_CONTROL_CA   PEM certificates that control's is checked against; default: the system's
  GATEWAY_CONFIG       the text of a configuration, in the place of --config
  GATEWAY_STATE_TABLE  DynamoDB table with control's state item, read at a start while control is away
  GATEWAY_STATE_KEY    the item's key; default: weir
Of App Mesh's Envoy image: APPMESH_RESOURCE_ARN, APPMESH_RESOURCE_NAME, APPMESH_VIRTUAL_NODE_NAME,
  APPMESH_RESOURCE_CLUSTER, ENVOY_LOG_LEVEL, ENVOY_CONCURRENCY, ENVOY_ADMIN_ACCESS_PORT, LISTENER_DRAIN_WAIT_TIME_S,
  ENABLE_ENVOY_STATS_TAGS";

/// What the environment says: variables of App Mesh's Envoy image that make sense here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// `GATEWAY_CONFIG`: the configuration itself.
    pub config: Option<String>,
    /// `GATEWAY_CONTROL`: where control is.
    pub control: Option<String>,
    /// `GATEWAY_TOKEN`, its first line: the token for control.
    pub token: Option<Secret>,
    /// `GATEWAY_CONTROL_CA`: PEM certificates that control's is checked against.
    pub control_ca: Option<String>,
    /// `GATEWAY_STATE_TABLE`: the DynamoDB table of control's state item.
    pub state_table: Option<String>,
    /// `GATEWAY_STATE_KEY`: the item's key.
    pub state_key: Option<String>,
    /// `ENVOY_LOG_LEVEL`.
    pub log_level: Option<String>,
    /// `ENVOY_CONCURRENCY`.
    pub concurrency: Option<usize>,
    /// `ENVOY_ADMIN_ACCESS_PORT`.
    pub admin_port: Option<u16>,
    /// `LISTENER_DRAIN_WAIT_TIME_S`.
    pub drain_seconds: Option<u64>,
    /// `APPMESH_RESOURCE_ARN`, else `APPMESH_RESOURCE_NAME`, else `APPMESH_VIRTUAL_NODE_NAME`, from `mesh/` on.
    pub resource: Option<String>,
    /// `APPMESH_RESOURCE_CLUSTER`, else `APPMESH_VIRTUAL_NODE_CLUSTER`.
    pub resource_cluster: Option<String>,
    /// `ENABLE_ENVOY_STATS_TAGS` is 1 or true.
    pub stats_tags: bool,
    /// Variables of that image that mean nothing here, or whose value cannot be read; and names like ours.
    pub ignored: Vec<String>,
    /// Variables that are set and empty, which count as not set: an ECS secret can be empty.
    pub empty: Vec<String>,
    /// Variables of ours that cannot be used: which, why, and what to do.
    pub faults: Vec<String>,
}

/// Why there is no configuration to start with. The text is for people and whole.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unusable {
    /// Nobody said what to serve.
    #[error("{0}")]
    Nothing(String),
    /// What was said is refused.
    #[error("{0}")]
    Refused(String),
}

impl Environment {
    /// Reads variables.
    pub fn read(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut found = Self::default();
        let mut names: [Option<String>; 3] = [None, None, None];
        let mut clusters: [Option<String>; 2] = [None, None];
        for (name, value) in variables {
            let value = value.trim().to_owned();
            if value.is_empty() && is_known(&name) {
                found.empty.push(name);
                continue;
            }
            match name.as_str() {
                "GATEWAY_CONFIG" => found.config = Some(value),
                "GATEWAY_CONTROL" => found.control = Some(value.trim_end_matches('/').to_owned()),
                "GATEWAY_TOKEN" => found.token = first_line(&value).map(Secret),
                "GATEWAY_CONTROL_CA" => found.control_ca = Some(value),
                "GATEWAY_STATE_TABLE" => found.state_table = Some(value),
                "GATEWAY_STATE_KEY" => found.state_key = Some(value),
                "ENVOY_LOG_LEVEL" => found.log_level = Some(value),
                "ENVOY_CONCURRENCY" => found.number(&name, &value, |f, n| f.concurrency = Some(n)),
                "ENVOY_ADMIN_ACCESS_PORT" => found.number(&name, &value, |f, n| f.admin_port = Some(n)),
                "LISTENER_DRAIN_WAIT_TIME_S" => found.number(&name, &value, |f, n| f.drain_seconds = Some(n)),
                "APPMESH_RESOURCE_ARN" => names[0] = Some(value),
                "APPMESH_RESOURCE_NAME" => names[1] = Some(value),
                "APPMESH_VIRTUAL_NODE_NAME" => names[2] = Some(value),
                "APPMESH_RESOURCE_CLUSTER" => clusters[0] = Some(value),
                "APPMESH_VIRTUAL_NODE_CLUSTER" => clusters[1] = Some(value),
                "ENABLE_ENVOY_STATS_TAGS" => found.stats_tags = value == "1" || value == "true",
                _ if is_known(&name) => found.ignored.push(name),
                _ => {}
            }
        }
        let resource = names.into_iter().flatten().next();
        // An ARN carries region and account before the resource.
        found.resource = resource.map(|text| text.rsplit(':').next().unwrap_or_default().to_owned());
        found.resource_cluster = clusters.into_iter().flatten().next();
        found.ignored.sort();
        found.empty.sort();
        found.faults = found.check();
        found
    }

    /// What is wrong with our own variables.
    fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some(url) = &self.control {
            if url.contains('@') {
                // Not shown: what stands before the `@` may be a secret.
                faults.push(
                    "GATEWAY_CONTROL: a URL with a user part; write http://host:18000, and the token into \
                     GATEWAY_TOKEN"
                        .to_owned(),
                );
            } else if let Err(fault) = Rule::HttpUrl.check(url) {
                faults.push(format!("GATEWAY_CONTROL: {}; {}", fault.message, fault.cure));
            }
        }
        if self.token.as_ref().is_some_and(|token| !token.0.bytes().all(|byte| byte.is_ascii_graphic())) {
            faults.push(
                "GATEWAY_TOKEN: blanks, control or other characters that no token has (the value is not shown); \
                 put the token alone into the secret"
                    .to_owned(),
            );
        }
        if self.control_ca.as_ref().is_some_and(|text| !text.contains(PEM)) {
            faults.push(format!(
                "GATEWAY_CONTROL_CA: no certificate in it; it takes the text of a PEM file, from `{PEM}` on"
            ));
        }
        faults
    }

    /// What should be said at the start although it stops nothing.
    pub fn notes(&self, bootstrap: &Bootstrap) -> Vec<String> {
        let mut notes: Vec<String> =
            self.empty.iter().map(|name| format!("{name} is empty and counts as not set")).collect();
        let of_control = [
            ("GATEWAY_TOKEN", self.token.is_some()),
            ("GATEWAY_CONTROL_CA", self.control_ca.is_some()),
            ("GATEWAY_STATE_TABLE", self.state_table.is_some()),
        ];
        if bootstrap.control.is_none() {
            let set = of_control.into_iter().filter(|(_, set)| *set);
            notes.extend(set.map(|(name, _)| {
                format!("{name} means nothing without control; say where it is with GATEWAY_CONTROL")
            }));
        }
        if self.state_key.is_some() && self.state_table.is_none() {
            notes.push("GATEWAY_STATE_KEY means nothing without GATEWAY_STATE_TABLE".to_owned());
        }
        notes
    }

    /// The configuration of a start: of the file, else of `GATEWAY_CONFIG`, else of control alone; completed by the
    /// variables. It may be without listeners only when control is known.
    ///
    /// # Errors
    /// [`Unusable`], with everything that is wrong with variables and file.
    pub fn bootstrap(&self, path: Option<&Path>) -> Result<Bootstrap, Unusable> {
        let read = match (path, &self.config) {
            (Some(path), _) => self.read_file(path),
            (None, Some(text)) => self.parse("GATEWAY_CONFIG", text.as_bytes()),
            (None, None) if self.control.is_some() => self.parse("GATEWAY_CONTROL", b"{}"),
            (None, None) if self.faults.is_empty() => return Err(Unusable::Nothing(self.nothing())),
            (None, None) => Err(String::new()),
        };
        let variables: String = self.faults.iter().map(|fault| format!("gateway: {fault}\n")).collect();
        match read {
            Err(text) => Err(Unusable::Refused(variables + &text)),
            Ok(_) if !variables.is_empty() => Err(Unusable::Refused(variables)),
            Ok(bootstrap) if bootstrap.listeners.is_empty() && bootstrap.control.is_none() => {
                Err(Unusable::Nothing(self.nothing()))
            }
            Ok(bootstrap) => Ok(bootstrap),
        }
    }

    /// A configuration file, completed by the variables.
    ///
    /// # Errors
    /// Every error of the file, as text.
    pub fn read_file(&self, path: &Path) -> Result<Bootstrap, String> {
        if self.control.is_some()
            && let Ok(bytes) = std::fs::read(path)
            && bytes.len() <= MAX_FILE_BYTES
        {
            return self.parse(&path.display().to_string(), &bytes);
        }
        self.completed(read_bootstrap(path).map_err(|diagnostics| diagnostics.to_string()))
    }

    fn parse(&self, name: &str, text: &[u8]) -> Result<Bootstrap, String> {
        let parse = if self.control.is_some() { parse_partial_bootstrap } else { parse_bootstrap };
        self.completed(parse(name, text).map_err(|diagnostics| diagnostics.to_string()))
    }

    fn completed(&self, read: Result<Bootstrap, String>) -> Result<Bootstrap, String> {
        let mut bootstrap = read?;
        self.complete(&mut bootstrap);
        Ok(bootstrap)
    }

    /// What to add, when there is nothing to serve.
    fn nothing(&self) -> String {
        let mut text =
            "gateway: there is nothing to serve: no configuration, and no control to get one from.\n"
                .to_owned();
        if let Some(resource) = &self.resource {
            text += &format!(
                "The environment names `{resource}` of App Mesh, which ended on 2026-09-30: the name alone says nothing \
                 any more.\n"
            );
        }
        for name in &self.empty {
            text += &format!("{name} is set but empty, which counts as not set.\n");
        }
        text += "Add to the container's environment GATEWAY_CONTROL=http://HOST:18000 (the address of control, which \
                 gives listeners, clusters and weights) and the secret GATEWAY_TOKEN (a gateway token of it); or put a \
                 configuration's text into GATEWAY_CONFIG, or name a file with --config FILE.\n";
        text
    }

    fn number<N: std::str::FromStr>(&mut self, name: &str, value: &str, set: impl FnOnce(&mut Self, N)) {
        match value.parse() {
            Ok(number) => set(self, number),
            Err(_) => self.ignored.push(format!("{name} (not a number in range: `{value}`)")),
        }
    }

    /// Puts what the environment says about the process in place of the file's words.
    pub fn complete(&self, bootstrap: &mut Bootstrap) {
        if let Some(port) = self.admin_port {
            bootstrap.admin.address.set_port(port);
        }
        if let Some(resource) = &self.resource {
            bootstrap.node.id.clone_from(resource);
            bootstrap.node.cluster.clone_from(self.resource_cluster.as_ref().unwrap_or(resource));
        }
        if let Some(url) = &self.control {
            let control = bootstrap.control.get_or_insert_with(|| Control {
                url: String::new(),
                token_file: None,
                token: None,
                ca_file: None,
                ca: None,
                state_dir: None,
                state_item: None,
            });
            control.url.clone_from(url);
        }
        if let Some(control) = &mut bootstrap.control {
            control.token.clone_from(&self.token);
            control.ca.clone_from(&self.control_ca);
            if let Some(table) = &self.state_table {
                let key = self.state_key.clone().unwrap_or_else(|| DEFAULT_STATE_KEY.to_owned());
                control.state_item = Some(StateItem { table: table.clone(), key });
            }
        }
    }

    /// Labels for every Prometheus series, when asked for.
    pub fn stats_labels(&self) -> Vec<(&'static str, String)> {
        let Some((mesh, gateway)) = self.mesh_and_gateway().filter(|_| self.stats_tags) else {
            return Vec::new();
        };
        vec![("appmesh_mesh", mesh.to_owned()), ("appmesh_virtual_gateway", gateway.to_owned())]
    }

    /// Mesh and virtual gateway of the resource (`mesh/M/virtualGateway/G`), for statistics tags.
    pub fn mesh_and_gateway(&self) -> Option<(&str, &str)> {
        let mut parts = self.resource.as_deref()?.split('/');
        match (parts.next()?, parts.next()?, parts.next()?, parts.next()?) {
            ("mesh", mesh, "virtualGateway" | "virtualNode", gateway) => Some((mesh, gateway)),
            _ => None,
        }
    }
}

/// A token file has its token on the first line, so one secret can serve both.
fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Names of the image, and names like ours.
fn is_known(name: &str) -> bool {
    const PREFIXES: [&str; 9] = [
        "GATEWAY_",
        "LISTENER_DRAIN_",
        "APPMESH_",
        "APPNET_",
        "ENVOY_",
        "ENABLE_ENVOY_",
        "XRAY_",
        "STATSD_",
        "DATADOG_",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Environment {
        Environment::read(pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())))
    }

    #[test]
    fn the_resource_arn_wins_over_the_older_names_and_loses_its_account() {
        let found = read(&[
            ("APPMESH_VIRTUAL_NODE_NAME", "mesh/m/virtualGateway/old"),
            ("APPMESH_RESOURCE_ARN", "arn:aws:appmesh:eu-west-1:123456789012:mesh/m/virtualGateway/g"),
        ]);
        assert_eq!(found.resource.as_deref(), Some("mesh/m/virtualGateway/g"));
        assert_eq!(found.mesh_and_gateway(), Some(("m", "g")));
    }

    const SEED: (&str, &str) = ("APPMESH_VIRTUAL_NODE_NAME", "mesh/m/virtualGateway/g");

    #[test]
    fn with_control_alone_there_is_a_configuration_without_listeners() {
        let found = read(&[
            SEED,
            ("GATEWAY_CONTROL", "https://control.test:18000/"),
            ("GATEWAY_TOKEN", "s3cret\nolder"),
            ("GATEWAY_STATE_TABLE", "weir-state"),
        ]);
        let bootstrap = found.bootstrap(None).unwrap();
        assert!(bootstrap.listeners.is_empty());
        assert_eq!(bootstrap.node.id, "mesh/m/virtualGateway/g");
        let control = bootstrap.control.clone().unwrap();
        assert_eq!(control.url, "https://control.test:18000");
        assert_eq!(control.token, Some(Secret("s3cret".to_owned())));
        let item = control.state_item.unwrap();
        assert_eq!((item.table.as_str(), item.key.as_str()), ("weir-state", "weir"));
        assert!(!format!("{found:?}{bootstrap:?}").contains("s3cret"), "a token is never shown");
    }

    #[test]
    fn the_environment_wins_over_what_the_text_says_of_control() {
        let text = "control: {url: 'http://old:18000', token_file: /run/token, state_dir: /state}";
        let found = read(&[("GATEWAY_CONFIG", text), ("GATEWAY_CONTROL", "http://new:18000")]);
        let control = found.bootstrap(None).unwrap().control.unwrap();
        assert_eq!(control.url, "http://new:18000");
        assert_eq!(control.state_dir.as_deref(), Some("/state"), "what no variable says stays");
    }

    #[test]
    fn the_variable_of_the_former_mesh_alone_is_told_what_to_add() {
        let found = read(&[SEED, ("GATEWAY_TOKEN", " ")]);
        let Err(Unusable::Nothing(text)) = found.bootstrap(None) else { panic!("started with nothing") };
        for part in [
            "mesh/m/virtualGateway/g",
            "GATEWAY_CONTROL=http",
            "GATEWAY_CONFIG",
            "GATEWAY_TOKEN is set but empty",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_variable_of_ours_that_cannot_be_used_is_named_and_its_secret_is_not() {
        for (name, value, why) in [
            ("GATEWAY_CONTROL", "control:18000", "`control:18000` is not"),
            ("GATEWAY_CONTROL", "http://hidden@control:18000", "user part"),
            ("GATEWAY_TOKEN", "hid den", "not shown"),
            ("GATEWAY_CONTROL_CA", "hidden.pem", "PEM"),
        ] {
            let found = read(&[("GATEWAY_CONTROL", "http://control.test:18000"), (name, value)]);
            let Err(Unusable::Refused(text)) = found.bootstrap(None) else { panic!("{name} was taken") };
            assert!(text.contains(name) && text.contains(why), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(!text.contains("hid"), "{text}");
        }
    }

    #[test]
    fn variables_and_text_are_refused_together() {
        let found = read(&[("GATEWAY_CONFIG", "{admni: 1}"), ("GATEWAY_CONTROL", "nonsense")]);
        let Err(Unusable::Refused(text)) = found.bootstrap(None) else { panic!("taken") };
        assert!(text.contains("GATEWAY_CONTROL") && text.contains("admni"), "{text}");
    }

    #[test]
    fn empty_variables_and_those_without_a_use_are_named() {
        let found = read(&[("GATEWAY_CONTROL", ""), ("GATEWAY_TOKEN", "t"), ("GATEWAY_STATE_KEY", "k")]);
        let bootstrap = parse_partial_bootstrap("test", b"{}").unwrap();
        let notes = found.notes(&bootstrap).join("\n");
        for part in
            ["GATEWAY_CONTROL is empty", "GATEWAY_TOKEN means nothing", "GATEWAY_STATE_KEY means nothing"]
        {
            assert!(notes.contains(part), "{notes}");
        }
    }

    #[test]
    fn a_variable_that_means_nothing_here_is_listed_and_one_of_somebody_else_is_not() {
        let found = read(&[("ENVOY_CONCURRENCY", "many"), ("ENABLE_ENVOY_XRAY_TRACING", "1"), ("HOME", "/")]);
        assert_eq!(found.concurrency, None);
        assert_eq!(
            found.ignored,
            ["ENABLE_ENVOY_XRAY_TRACING", "ENVOY_CONCURRENCY (not a number in range: `many`)"]
        );
    }
}
