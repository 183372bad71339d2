//! The environment of the gateway: variables of App Mesh's Envoy image, and our own.
//!
//! Owns their names and what they mean here. It must never stop a start: what cannot be read is ignored and listed.
//! Next: `app.rs`.

use gateway_config::model::Bootstrap;

/// What the environment says: variables of App Mesh's Envoy image that make sense here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// `GATEWAY_CONFIG`: the configuration itself.
    pub config: Option<String>,
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
    /// Variables of that image that mean nothing here, or whose value cannot be read.
    pub ignored: Vec<String>,
}

impl Environment {
    /// Reads variables.
    pub fn read(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut found = Self::default();
        let mut names: [Option<String>; 3] = [None, None, None];
        let mut clusters: [Option<String>; 2] = [None, None];
        for (name, value) in variables {
            let value = value.trim().to_owned();
            match name.as_str() {
                "GATEWAY_CONFIG" => found.config = Some(value),
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
                _ if is_of_the_image(&name) => found.ignored.push(name),
                _ => {}
            }
        }
        let resource = names.into_iter().flatten().next();
        // An ARN carries region and account before the resource.
        found.resource = resource.map(|text| text.rsplit(':').next().unwrap_or_default().to_owned());
        found.resource_cluster = clusters.into_iter().flatten().next();
        found.ignored.sort();
        found
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

fn is_of_the_image(name: &str) -> bool {
    const PREFIXES: [&str; 7] =
        ["APPMESH_", "APPNET_", "ENVOY_", "ENABLE_ENVOY_", "XRAY_", "STATSD_", "DATADOG_"];
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
