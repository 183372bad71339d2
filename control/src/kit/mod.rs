//! The files of `control init ecs`: all that a team needs to run Weir on ECS, with its own names in them.
//!
//! Owns the list of files; it must never touch the network or a credential. The texts themselves are the files in
//! `templates/`. Next: `names.rs` (what is asked of the user), `template.rs` (how a text is filled), `write.rs`.

mod names;
mod rules;
mod template;
mod write;

pub use names::{Flags, Names, NamesError, Properties, PropertiesError};
pub use template::TemplateError;
pub use write::{WriteError, write};

use std::collections::BTreeSet;
use template::{Values, fill};

/// One file of the kit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path below the output folder, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Where in the kit a template goes; a version's file is written once for each version.
const SERVICES: [(&str, &str); 2] = [("service1", "service1_image"), ("service2", "service2_image")];

macro_rules! templates {
    ($($path:literal => $template:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("templates/", $template)))),*]
    };
}

const CONTROL: &str = include_str!("templates/control.yaml");
const PULL_YAML: &str = include_str!("templates/pull.yaml");
const PULL_JSON: &str = include_str!("templates/pull.json");
const VERSION_TASK: &str = include_str!("templates/task-definitions/service.json");
const VERSION_MANIFEST: &str = include_str!("templates/copilot/service.yml");

const FILES: [(&str, &str); 17] = templates![
    "README.md" => "README.md",
    "weir.yaml" => "weir.yaml",
    "control.yaml" => "control.yaml",
    "create.sh" => "create.sh",
    "weir.env" => "weir.env",
    "task-definitions/gateway.json" => "task-definitions/gateway.json",
    "task-definitions/control.json" => "task-definitions/control.json",
    "iam/trust.json" => "iam/trust.json",
    "iam/gateway-execution.json" => "iam/gateway-execution.json",
    "iam/gateway-task.json" => "iam/gateway-task.json",
    "iam/control-execution.json" => "iam/control-execution.json",
    "iam/control-task.json" => "iam/control-task.json",
    "iam/service-execution.json" => "iam/service-execution.json",
    "copilot/service-gateway/manifest.yml" => "copilot/gateway.yml",
    "copilot/service-gateway/addons/weir.yml" => "copilot/gateway-addon.yml",
    "copilot/control/manifest.yml" => "copilot/control.yml",
    "copilot/control/addons/weir.yml" => "copilot/control-addon.yml",
];

const ENVIRONMENT_ADDON: (&str, &str) =
    ("copilot/environments/addons/weir.yml", include_str!("templates/copilot/environment-addon.yml"));

/// The kit for these names.
///
/// # Errors
/// A template that names what there is no value for, or a value that no template names: a defect of this program.
pub fn files(names: &Names) -> Result<Vec<File>, TemplateError> {
    let values = values(names)?;
    let mut used = BTreeSet::new();
    let mut files = Vec::new();
    for (path, text) in FILES.into_iter().chain([ENVIRONMENT_ADDON]) {
        files.push(File { path: path.to_owned(), text: fill(path, text, &values, &mut used)? });
    }
    for (version, (service, image)) in ["v1", "v2"].into_iter().zip(SERVICES) {
        let own = of_version(&values, service, image);
        let name = own.get("this_service").cloned().unwrap_or_default();
        for (path, text) in [
            (format!("task-definitions/{version}.json"), VERSION_TASK),
            (format!("copilot/{name}/manifest.yml"), VERSION_MANIFEST),
        ] {
            let text = fill(&path, text, &own, &mut used)?;
            files.push(File { path, text });
        }
    }
    if let Some(name) = values.keys().find(|name| !used.contains(**name)) {
        return Err(TemplateError::Unused { name: (*name).to_owned() });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn of_version(values: &Values, service: &str, image: &str) -> Values {
    let mut own = values.clone();
    for (name, from) in [("this_service", service), ("this_image", image)] {
        own.insert(name, values.get(from).cloned().unwrap_or_default());
    }
    own
}

/// What stands in the place of each placeholder.
fn values(names: &Names) -> Result<Values, TemplateError> {
    let mut values = names.values();
    let mut ignored = BTreeSet::new();
    let weir = [names.image.as_str()];
    let services = [names.service1_image.as_str(), names.service2_image.as_str()];
    for (yaml, json, images) in [
        ("pull_weir_yaml", "pull_weir_json", weir.as_slice()),
        ("pull_service_yaml", "pull_service_json", services.as_slice()),
    ] {
        let repositories = repositories(images, names.partition());
        let mut pull = |text: &str| -> Result<String, TemplateError> {
            if repositories.is_empty() {
                return Ok(String::new());
            }
            let own = Values::from([("repositories", repositories.clone())]);
            Ok(fill("pull", text, &own, &mut ignored)?.trim_end().to_owned())
        };
        values.insert(yaml, pull(PULL_YAML)?);
        values.insert(json, pull(PULL_JSON)?);
    }
    let control = fill("control.yaml", CONTROL, &values, &mut ignored)?;
    values.insert("control_config_json", serde_json::Value::from(control.as_str()).to_string());
    values.insert("control_config", control.trim_end().to_owned());
    // In the template the text follows the parameters, so that a changed parameter is not only half a change.
    let mut parameters = values.clone();
    for (name, parameter) in [
        ("table", "${StateTable}"),
        ("namespace", "${NamespaceName}"),
        ("service1", "${Service1Name}"),
        ("service2", "${Service2Name}"),
        ("port", "${ServicePort}"),
    ] {
        parameters.insert(name, parameter.to_owned());
    }
    let control = fill("control.yaml", CONTROL, &parameters, &mut ignored)?;
    values.insert("control_config_yaml", control.trim_end().to_owned());
    Ok(values)
}

/// ARNs of the images' repositories, where they are in ECR, quoted and with commas.
fn repositories(images: &[&str], partition: &str) -> String {
    let found: BTreeSet<String> = images.iter().filter_map(|image| repository(image, partition)).collect();
    found.into_iter().map(|arn| format!("\"{arn}\"")).collect::<Vec<_>>().join(", ")
}

/// `123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/weir:1` is the repository `team/weir` of that account.
fn repository(image: &str, partition: &str) -> Option<String> {
    let (registry, path) = image.split_once('/')?;
    let (account, rest) = registry.split_once(".dkr.ecr.")?;
    let (region, _) = rest.split_once(".amazonaws.com")?;
    let path = path.split('@').next()?.split(':').next()?;
    Some(format!("arn:{partition}:ecr:{region}:{account}:repository/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_of_an_ecr_image_is_known_and_of_another_is_not_needed() {
        let arn = |image| repository(image, "aws");
        let weir = Some("arn:aws:ecr:eu-west-1:123456789012:repository/team/weir".to_owned());
        assert_eq!(arn("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/weir:1.2"), weir);
        assert_eq!(arn("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/weir@sha256:ab12"), weir);
        assert_eq!(arn("example.org/team/weir:1.2"), None);
        assert_eq!(arn("weir"), None);
    }
}
